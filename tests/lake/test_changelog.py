"""Changelog tables: rows, schema and position travel together, each event once."""

from support.changelogs import opened
from support.fleet import replace_ports
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg


def read_all(fleet, changelog, columns=slice(5, None)):
    """What the three readers find, which must be the same."""
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    found = [
        sorted(read(environment, [changelog.identifier])[0], key=repr)
        for read in (by_pyiceberg, by_duckdb, by_clickhouse)
    ]
    assert found[0] == found[1] == found[2]
    return [row[columns] for row in found[0]]


async def test_smoke(fleet):
    async with opened(fleet) as changelog:
        await changelog.create()
        done = await changelog.append(1, 2)
        assert done.landed
        print(read_all(fleet, changelog, slice(None)))
        print(changelog.state())
