"""One private authority for all tests of this room, and one that nobody trusts."""

from dataclasses import dataclass

import pytest

from support.authority import Authority, Certificate


@dataclass(frozen=True)
class Papers:
    """Certificates of every kind that a connection may meet."""

    ours: Authority
    strangers: Authority
    server: Certificate
    expired: Certificate
    elsewhere: Certificate
    """Of a server with another name."""
    client: Certificate
    foreign: Certificate
    """Of a client whom the strangers' authority has signed."""


@pytest.fixture(scope="session")
def papers(tmp_path_factory) -> Papers:
    place = tmp_path_factory.mktemp("authority")
    ours, strangers = Authority(place, "ours"), Authority(place, "strangers")
    return Papers(
        ours=ours,
        strangers=strangers,
        server=ours.server(),
        expired=ours.server("expired", days=-1),
        elsewhere=ours.server("elsewhere", host="elsewhere.icefleet.test", loopback=False),
        client=ours.client(),
        foreign=strangers.client(),
    )
