"""Keys of S3: those that config names, read anew for each request, or those of the role that this process has.

A role's keys come by botocore's own chain: variables and files of AWS, web identity, a pod's or a machine's service.
"""

from functools import lru_cache
from typing import Any

import aioboto3
import aiobotocore.session
import botocore.session
from aiobotocore.credentials import AioCredentials
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


@lru_cache(maxsize=16)
def store_session(keys: StoreKeys | None, region: str) -> aioboto3.Session:
    """One for all clients of one user: each session reads its own megabytes of what S3 is like, from JSON."""
    session = aiobotocore.session.get_session()
    if keys is not None:
        session._credentials = _NamedKeys(keys)  # noqa: SLF001 - there is no other way to give it keys that change
    return aioboto3.Session(botocore_session=session, region_name=region)


@lru_cache(maxsize=1)
def _role() -> Any:
    credentials = botocore.session.get_session().get_credentials()
    if credentials is None:
        raise StoreRefused(NO_KEYS)
    return credentials


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
