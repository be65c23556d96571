"""A private certificate authority, made with the `openssl` program: certificates of servers and clients."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

SERVER_NAME = "part.icefleet.test"
"""What certificates of servers are for, beside the loopback address."""


@dataclass(frozen=True)
class Certificate:
    """One certificate and its key, in PEM form."""

    cert: Path
    key: Path


class Authority:
    """An authority whose files lie in one directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self.file = directory / f"{name}.crt"
        self._key = directory / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-new", *self._new_key(self._key), "-subj", f"/CN={name}", "-days", "2"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-out", str(self.file)),
        )

    def server(
        self, name: str = "server", *, host: str = SERVER_NAME, days: int = 2, loopback: bool = True
    ) -> Certificate:
        """A certificate of a server; with fewer than no days it has expired."""
        names = f"DNS:{host}" + (",IP:127.0.0.1,DNS:localhost" if loopback else "")
        return self._sign(name, days, f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n", host)

    def client(self, name: str = "worker") -> Certificate:
        """A certificate of a client."""
        return self._sign(name, 2, "extendedKeyUsage=clientAuth\n", name)

    def _sign(self, name: str, days: int, extensions: str, subject: str) -> Certificate:
        place = self._directory / f"{self._name}-{name}"
        made = Certificate(place.with_suffix(".crt"), place.with_suffix(".key"))
        request, wanted = place.with_suffix(".csr"), place.with_suffix(".ext")
        wanted.write_text(f"basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n{extensions}", encoding="utf-8")
        self._openssl("req", "-new", *self._new_key(made.key), "-subj", f"/CN={subject}", "-out", str(request))
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.file), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-days", str(days), "-extfile", str(wanted), "-out", str(made.cert)),
        )
        made.key.chmod(0o600)
        return made

    def _new_key(self, place: Path) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(place))

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self._directory)


def server_context(
    certificate: Certificate, *, clients_of: Authority | None = None, protocols: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """What a server shows, and whose clients it lets in: with an authority none but those that it has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    if clients_of is not None:
        context.load_verify_locations(clients_of.file)
        context.verify_mode = ssl.CERT_REQUIRED
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
