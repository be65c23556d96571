"""The shape of `tls` in environments.yaml: certificates in PEM form, by the paths of their files."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from activities.core.credentials import Tls as TlsFiles
from worker.config_fields import Part, Text
from worker.config_secrets import FilePath


class Authorities(Part):
    """Who may have signed the server's certificate, where that is nobody whom the system knows."""

    ca: FilePath | None = Field(default=None, alias="ca_file")

    def files(self) -> TlsFiles:
        """What clients are told."""
        return TlsFiles(ca_file=self.ca or "")


class ClientTls(Authorities):
    """The same, and the certificate that we show ourselves."""

    cert: FilePath | None = Field(default=None, alias="cert_file")
    """With those between it and its authority."""
    key: FilePath | None = Field(default=None, alias="key_file")

    def files(self) -> TlsFiles:
        """What clients are told."""
        return TlsFiles(self.ca or "", self.cert or "", self.key or "")


class Tls(ClientTls):
    """The same, and the name that the server's certificate has."""

    server_name: Text | None = None
    """Where it is not the host of the address."""

    def files(self) -> TlsFiles:
        """What clients are told."""
        return TlsFiles(self.ca or "", self.cert or "", self.key or "", self.server_name or "")


def _switch(value: Any) -> Any:
    """`true` stands for TLS with nothing said of it, `false` for none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


TlsOrNot = Annotated[Tls | None, BeforeValidator(_switch)]
