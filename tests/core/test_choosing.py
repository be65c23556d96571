"""Names, patterns and groups become tables and networks, or everything that is wrong with them is said."""

import pytest

from activities.core.choosing import choose
from activities.core.tables import NetworkRange, PartitionRule, TableConfig


def table(name: str, group: str, networks: str) -> TableConfig:
    ranges = tuple(NetworkRange(network, "2024-01-01") for network in networks.split())
    return TableConfig(name, "default", "local.default", PartitionRule("daily", "at"), ranges, group=group)


TABLES = [
    table("blocks", "daily", "mainnet sepolia"),
    table("blobs", "daily", "mainnet"),
    table("traces", "chunked", "mainnet"),
    table("peers", "peers", "mainnet"),
]
EXPORTS = [(config, network.name) for config in TABLES for network in config.networks]


def chosen(*tables: str, networks: tuple[str, ...] = ()) -> list[str]:
    found, problems = choose(EXPORTS, tables, networks, lambda name: f"no table {name!r}")
    assert problems == []
    return [f"{network}.{config.name}" for config, network in found]


def problems(*tables: str, networks: tuple[str, ...] = ()) -> list[str]:
    return choose(EXPORTS, tables, networks, lambda name: f"no table {name!r}")[1]


def test_names_patterns_and_groups_choose_each_table_and_network_once_in_the_order_of_the_list():
    assert chosen("traces", "blocks") == ["mainnet.traces", "mainnet.blocks", "sepolia.blocks"]
    assert chosen("bl*", "blocks") == ["mainnet.blocks", "sepolia.blocks", "mainnet.blobs"]
    assert (
        chosen("daily", "traces", "daily")
        == chosen("group:daily", "*a*s")
        == [
            "mainnet.blocks",
            "sepolia.blocks",
            "mainnet.blobs",
            "mainnet.traces",
        ]
    )
    assert chosen("group:dail*") == chosen("group:daily")
    assert chosen("table:peers") == chosen("group:peers") == ["mainnet.peers"]


def test_networks_leave_out_the_tables_of_a_pattern_or_group_that_have_none_of_them():
    assert chosen("*", networks=("sepolia",)) == ["sepolia.blocks"]
    assert chosen("daily", networks=("sepolia",)) == ["sepolia.blocks"]
    assert chosen("daily", networks=("sep*",)) == ["sepolia.blocks"]
    assert chosen("blocks", networks=("*t", "s?polia")) == ["mainnet.blocks", "sepolia.blocks"]


@pytest.mark.parametrize(
    ("tables", "networks", "said"),
    [
        ([], (), ["field 'tables' is empty: name tables, patterns such as canonical_*, or groups"]),
        (["peers"], (), ["'peers' is a table and a group: write table:peers or group:peers"]),
        (["blockz"], (), ["no table 'blockz'"]),
        (["dailly"], (), ["no table or group 'dailly'; did you mean the group `daily`?"]),
        (["group:dailly"], (), ["no group 'dailly' in config; did you mean `daily`?"]),
        (
            ["group:x", "table:daily"],
            (),
            [
                "no group 'x' in config; known: `chunked`, `daily`, `peers`",
                "no table or group 'daily'; did you mean the group `daily`?",
            ],
        ),
        (["q*", ""], (), ["no table's name fits the pattern 'q*'", "no table ''"]),
        (["blobs"], ("sepolia",), ["'blobs' has none of the networks sepolia; it has mainnet"]),
        (["blobs"], ("mainet",), ["no table has a network 'mainet'; did you mean `mainnet`?"]),
        (["bl*", "t*"], ("sepolia",), ["'t*' has none of the networks sepolia; it has mainnet"]),
        (["blocks"], ("main*", "hol*"), ["no table has a network 'hol*'; known: `mainnet`, `sepolia`"]),
    ],
)
def test_everything_that_is_wrong_is_said(tables, networks, said):
    assert problems(*tables, networks=networks) == said
