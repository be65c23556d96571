"""How the catalog learns who asks: OAuth2 client credentials, or a bearer token; each as it is when it is used."""

from collections.abc import Mapping
from dataclasses import dataclass

import requests
from pyiceberg.catalog.rest.auth import AuthManager, LegacyOAuth2AuthManager

from activities.core.credentials import Secret, reveal


@dataclass(frozen=True)
class CatalogLogin:
    """One of the two; with neither nobody logs in."""

    credential: Secret = ""
    """`client id:client secret`, for OAuth2 client credentials."""
    token: Secret = ""
    """A bearer token, such as one that is replaced in its file now and then."""


class _ClientCredentials(LegacyOAuth2AuthManager):
    """Tokens got with a credential that may have been replaced since the last one. PyIceberg asks anew after a 401."""

    def __init__(self, session: requests.Session, url: str, credential: Secret, options: Mapping[str, str]) -> None:
        self._ask = credential
        super().__init__(session, url, reveal(credential), optional_oauth_params=dict(options))

    def _refresh_token(self) -> None:
        self._credential = reveal(self._ask)
        super()._refresh_token()


class _Bearer(AuthManager):
    """A token that is shown as it is."""

    def __init__(self, token: Secret) -> None:
        self._ask = token

    def auth_header(self) -> str:
        """The header of the next request."""
        return f"Bearer {reveal(self._ask)}"


def logged_in(
    login: CatalogLogin, session: requests.Session, url: str, options: Mapping[str, str]
) -> AuthManager | None:
    """Who logs a session in; None when nobody does.

    Args:
        login: what config says.
        session: asks for tokens.
        url: where there are tokens.
        options: what goes with each question for one, such as its scope.
    """
    if login.credential:
        return _ClientCredentials(session, url, login.credential, options)
    return _Bearer(login.token) if login.token else None
