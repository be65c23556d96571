"""What connections log in with. Secrets are asked for when they are used, so that one that was replaced is found."""

import re
from collections.abc import Callable
from dataclasses import dataclass

Secret = str | Callable[[], str]
"""A secret, or what answers the one that is right just now."""


def reveal(secret: Secret) -> str:
    """The secret as it is just now.

    Raises:
        BadConfig: the file that holds it cannot be read.
    """
    return secret() if callable(secret) else secret


@dataclass(frozen=True)
class Tls:
    """Files in PEM form, by path; what is empty is left to the system, or is not used."""

    ca_file: str = ""
    """The authorities that may have signed the server's certificate."""
    cert_file: str = ""
    """The certificate that the client shows, with those between it and its authority."""
    key_file: str = ""
    """The private key of that certificate."""
    server_name: str = ""
    """What the server's certificate is for, where that is not the host of the address."""


NO_TLS = Tls()
"""Nothing but what the system has."""


@dataclass(frozen=True)
class StoreKeys:
    """Keys of S3. The session token is that of keys which somebody else renews; empty: there is none."""

    access_key: Secret
    secret_key: Secret
    session_token: Secret = ""

    def now(self) -> tuple[str, str, str]:
        """Access key, secret key and session token as they are just now."""
        return reveal(self.access_key), reveal(self.secret_key), reveal(self.session_token)


_TROUBLE = re.compile(
    r"certificate[ _]verify[ _]failed|invalid ?(?:peer )?certificate|hostname mismatch|does not match host name"
    r"|alert:? ?(?:certificate|bad ?certificate|unknown ?ca|no ?certificate|handshake)|certificate ?required"
    r"|unknown ?issuer|valid client certificate|certificate authentication failed|peer certificate|bad ?certificate"
    r"|root certificate file",
    re.IGNORECASE,
)
"""How OpenSSL, rustls, curl and libpq say that one side does not take the other's certificate."""


def is_tls_trouble(failed: BaseException) -> bool:
    """Whether a connection came to nothing because of certificates, which asking again cannot mend."""
    seen: BaseException | None = failed
    while seen is not None:
        if _TROUBLE.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def tls_advice(part: str) -> str:
    """The way out of such trouble; `part` is where `tls` stands in environments.yaml."""
    return (
        f"look at `tls` of {part} in environments.yaml (`ca_file`: who signed the server's certificate; `cert_file` "
        "and `key_file`: ours; `server_name`), and at the server's certificate: its name, its end, its authority"
    )
