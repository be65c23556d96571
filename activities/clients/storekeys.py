"""Keys of S3: those that config names, read anew for each request, or those of the role that this process has.

A role's keys come by botocore's own chain: variables and files of AWS, web identity, a pod's or a machine's service.
"""

import asyncio
import ssl
from functools import lru_cache
from typing import Any

import aioboto3
import aiobotocore.session
import botocore.session
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from activities.core.credentials import StoreKeys
from activities.core.faults import StoreRefused, StoreUnavailable

NO_KEYS = (
    "there are no keys for the object store: neither does config name any (storage.access_key_env or _file), nor has "
    "this process a role (AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE, a pod identity, an instance profile)"
)


class _NamedKeys(AioCredentials):  # type: ignore[misc] # botocore has no types
    """Keys of config. Each request is signed with those that are right by then."""

    def __init__(self, keys: StoreKeys) -> None:
        access_key, secret_key, token = keys.now()
        super().__init__(access_key, secret_key, token or None, method="config")
        self._keys = keys

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """What a request is signed with."""
        access_key, secret_key, token = self._keys.now()
        return ReadOnlyCredentials(access_key, secret_key, token or None)


class _RoleKeys(AioCredentials):  # type: ignore[misc] # botocore has no types
    """Those of the role, by the same way on which files of tables get them."""

    def __init__(self) -> None:
        super().__init__("", "", None, method="role")

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """What a request is signed with. Only who has to ask for new ones waits for a thread."""
        access_key, secret_key, token = role_keys() if _is_fresh() else await asyncio.to_thread(role_keys)
        return ReadOnlyCredentials(access_key, secret_key, token or None)


class CheckedSession(AIOHTTPSession):  # type: ignore[misc] # botocore has no types
    """Requests by TLS to nobody but the host that was meant.

    botocore leaves the comparison of names to urllib3, and aiobotocore, which has none, makes it nowhere: a certificate
    of any other host would do.
    """

    def _get_ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super()._get_ssl_context()
        context.check_hostname = True
        return context


@lru_cache(maxsize=16)
def store_session(keys: StoreKeys | None, region: str) -> aioboto3.Session:
    """One for all clients of one user: each session reads its own megabytes of what S3 is like, from JSON."""
    session = aiobotocore.session.get_session()
    # There is no other way to give it keys that change.
    session._credentials = _NamedKeys(keys) if keys is not None else _RoleKeys()  # noqa: SLF001
    return aioboto3.Session(botocore_session=session, region_name=region)


@lru_cache(maxsize=1)
def _role() -> Any:
    credentials = botocore.session.get_session().get_credentials()
    if credentials is None:
        raise StoreRefused(NO_KEYS)
    return credentials


def _is_fresh() -> bool:
    """Whether the role's keys are known, and for long enough."""
    if not _role.cache_info().currsize:
        return False
    needed = getattr(_role(), "refresh_needed", None)
    return needed is None or not needed()


def role_keys() -> tuple[str, str, str]:
    """Access key, secret key and session token of this process's role; they are renewed when it is time. This blocks.

    Raises:
        StoreRefused: it has none.
        StoreUnavailable: whoever hands them out does not.
    """
    try:
        keys = _role().get_frozen_credentials()
    except (BotoCoreError, ClientError) as failed:
        raise StoreUnavailable(f"keys of the role for the object store: {failed}") from failed
    return keys.access_key, keys.secret_key, keys.token or ""
