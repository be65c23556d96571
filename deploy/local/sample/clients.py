"""Who reports: clients of several operators, with all that their operators let be known of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.local.sample.sql import literal

STRUCTURE = (
    "name String, os String, ip Nullable(IPv6), city String, country String, code String, continent String, "
    "lon Nullable(Float64), lat Nullable(Float64), asn Nullable(UInt32), org Nullable(String), "
    "consensus String, major UInt8, minor UInt8, patch UInt8"
)


@dataclass(frozen=True)
class _Place:
    """Where a client runs, and what it runs. A group in `public` hides a part of it; without one, the node is ours."""

    public: str
    ip: str | None
    city: str
    country: str
    code: str
    continent: str
    lon: float | None
    lat: float | None
    asn: int | None
    org: str | None
    consensus: str
    version: tuple[int, int, int]
    os: str = "linux"


_PLACES = (
    _Place("", "::ffff:203.0.113.7", "Zürich", "Switzerland", "CH", "EU",
           8.55, 47.3667, 64496, "Größe Netz GmbH", "lighthouse", (5, 1, 0)),
    _Place("pub-asn-city", "2001:db8:85a3::8a2e:370:7334", "São Paulo", "Brazil", "BR", "SA",
           -46.6333, -23.5505, 64497, "Café Conexão S.A.", "prysm", (5, 0, 1)),
    _Place("", "::ffff:198.51.100.23", "東京", "Japan", "JP", "AS",
           139.6917, 35.6895, 64498, "云网络 Cloud ☁️ 株式会社", "teku", (24, 2, 0)),
    _Place("pub-noasn-country", "2001:db8::1", "", "Iceland", "IS", "EU",
           -18.0, 65.0, None, None, "nimbus", (24, 3, 0)),
    _Place("pub-asn-none", None, "", "", "", "",
           None, None, 4_294_967_294, "", "lodestar", (1, 17, 0), os="darwin"),
    _Place("pub-asn-city", "::ffff:192.0.2.255", "Reykjavík", "Iceland", "IS", "EU",
           -21.8954, 64.1355, 64499, "O'Neill \\ Sons 🦄", "grandine", (0, 4, 0)),
    _Place("", "fd12:3456:789a::42", "القاهرة", "Egypt", "EG", "AF",
           31.2357, 30.0444, 64500, "شبكة النيل", "lighthouse", (4, 6, 0)),
    _Place("pub-noasn-city", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "Null Island", "", "", "",
           0.0, 0.0, None, None, "prysm", (4, 2, 1)),
)  # fmt: skip


def roster(network: str, count: int) -> str:
    """SQL of a table of the network's clients, one row each, under the alias `c`."""
    places = [(index, _PLACES[index % len(_PLACES)]) for index in range(count)]
    return _table([_row(_name(network, index, place), place) for index, place in places])


def late_client(network: str, serial: int) -> str:
    """SQL of a table of the one client that sends the late rows of this serial number."""
    return _table([_row(f"ethpandaops/{network}/late-{serial}", _PLACES[serial % len(_PLACES)])])


def columns(network: str, version: int) -> Mapping[str, str]:
    """The expressions of the `meta_…` columns; a corrected row knows a newer consensus version."""
    patch = f"toString(c.patch + {version})"
    return {
        "meta_client_name": "c.name",
        "meta_client_version": "'v0.0.152-1f6ab2c'",
        "meta_client_implementation": "'Xatu'",
        "meta_client_os": "c.os",
        "meta_client_ip": "c.ip",
        "meta_client_geo_city": "c.city",
        "meta_client_geo_country": "c.country",
        "meta_client_geo_country_code": "c.code",
        "meta_client_geo_continent_code": "c.continent",
        "meta_client_geo_longitude": "c.lon",
        "meta_client_geo_latitude": "c.lat",
        "meta_client_geo_autonomous_system_number": "c.asn",
        "meta_client_geo_autonomous_system_organization": "c.org",
        "meta_network_name": literal(network),
        "meta_consensus_version": f"concat('v', toString(c.major), '.', toString(c.minor), '.', {patch})",
        "meta_consensus_version_major": "toString(c.major)",
        "meta_consensus_version_minor": "toString(c.minor)",
        "meta_consensus_version_patch": patch,
        "meta_consensus_implementation": "c.consensus",
    }


def _name(network: str, index: int, place: _Place) -> str:
    if not place.public:
        return f"ethpandaops/{network}/{place.consensus}-{index}"
    fingerprint = hashlib.sha256(f"{network}/{index}".encode()).hexdigest()
    return f"{place.public}/user-{fingerprint[8:12]}/hashed-{fingerprint[:8]}"


def _row(name: str, place: _Place) -> str:
    values = (
        name, place.os, place.ip, place.city, place.country, place.code, place.continent, place.lon, place.lat,
        place.asn, place.org, place.consensus, *place.version,
    )  # fmt: skip
    return f"({', '.join(literal(value) for value in values)})"


def _table(rows: Sequence[str]) -> str:
    return f"values({literal(STRUCTURE)}, {', '.join(rows)}) AS c"
