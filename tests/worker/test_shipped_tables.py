"""config/tables.yaml against what is published, and against the real schemas."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from activities.core.columns import SourceColumn, export_columns
from activities.core.engines import check_sharding
from activities.core.faults import BadRequest
from activities.core.sensitive import looks_sensitive
from activities.core.tables import SENSITIVE
from worker.config import load_settings

ROOT = Path(__file__).parents[2]
XATU = ROOT.parent / "shared" / "xatu"
KINDS = {"daily": "daily", "hourly": "hourly"}
PUBLICATION_DELAY = 3 * 7_200
"""Blocks of three days: what is published follows the chain by that much."""


def read(file: str, key: str) -> dict[str, dict]:
    path = XATU / file
    entries = yaml.safe_load(path.read_text())[key] if path.exists() else []
    return {entry["name"]: entry for entry in entries}


PUBLISHED = read("layout_and_redaction.yaml", "public_tables")
REAL = {name: table for name, table in read("tables.yaml", "tables").items() if name in PUBLISHED}
needs_list = pytest.mark.skipif(not PUBLISHED, reason="the publication's own list is not at hand")

SHIPPED = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text(encoding="utf-8"))["groups"].values()
ENABLED = [table["name"] for group in SHIPPED if group["defaults"].get("enabled", True) for table in group["tables"]]
PLACE = ("longitude", "latitude", "city", "country", "country_code", "continent_code")
CLIENT = {"meta_client_ip", *(f"meta_client_geo_{part}" for part in PLACE)}
REMOTE = {"remote_ip", *(f"remote_geo_{part}" for part in PLACE)}
FAMILIES = {"beacon_api_": CLIENT, "mempool_": CLIENT, "libp2p_": CLIENT, "mev_relay_": CLIENT, "canonical_": set()}
"""What begins so is redacted so: whatever a contributor's node reports, and nothing of the chain itself."""
MEETINGS = {
    "libp2p_connected": REMOTE,
    "libp2p_disconnected": REMOTE,
    "libp2p_identify": REMOTE | {"listen_addrs", "observed_addr", "remote_multiaddr"},
    "libp2p_synthetic_heartbeat": REMOTE | {"remote_maddrs"},
}
"""Tables of two nodes that met: the other one has an address and a place as well."""
ALLOWED = {
    "libp2p_join": {"local_peer_id_unique_key"},
    "libp2p_leave": {"local_peer_id_unique_key"},
    "libp2p_rpc_meta_control_prune": {"peer_id_unique_key", "graft_peer_id_unique_key", "peer_id_index"},
    **{name: {"remote_peer_id_unique_key"} for name in MEETINGS},
}
"""What else than `peer_id_unique_key` is shown of tables of libp2p."""


@pytest.fixture(scope="module")
def settings():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ICEFLEET_CONFIG_OVERRIDE", raising=False)
        yield load_settings(ROOT / "config")


def newest_index(column: str, network: str) -> int:
    ends = (table["networks"].get(network, [0, 0])[1] for table in PUBLISHED.values() if table["column"] == column)
    return max(int(end or 0) for end in ends)


def lives(table: dict, network: str, end: str | None) -> bool:
    """Whether what is published of a network reaches as far as anything does."""
    if end in {None, "null"}:
        return True
    if network == "holesky" or not table["public"]:
        return False
    if table["type"] == "integer":
        return int(end) >= newest_index(table["column"], network) - PUBLICATION_DELAY
    return end >= "2026-08"


def test_all_tables_are_there_and_six_are_hidden(settings):
    assert (len(settings.tables), len(ENABLED), len(set(ENABLED))) == (87, 81, 81)
    hidden = set(settings.tables) - set(ENABLED)
    assert len(hidden) == 6
    for environment in ("local", "production"):
        exported = {table.name for table, _ in settings.exports(environment)} & set(settings.tables)
        assert exported == set(ENABLED)
    for name in hidden:
        with pytest.raises(BadRequest, match=f"^table '{name}' is disabled in environment 'production'"):
            settings.table("production", name, "mainnet")


@needs_list
def test_every_published_table_is_there_and_no_other(settings):
    assert set(settings.tables) == set(PUBLISHED)
    assert set(ENABLED) == {name for name, table in PUBLISHED.items() if table["public"]}


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_table_is_what_is_published_of_it(settings, published):
    table = settings.tables[published["name"]]
    integer = published["type"] == "integer"
    assert (table.database, table.partition.column) == (published["database"], published["column"])
    assert table.partition.type == ("integer" if integer else KINDS[published["interval"]])
    assert table.partition.chunk_size == (published["interval"] if integer else None)
    assert (table.partition.coarse_chunks is not None) == integer
    assert (table.profile, table.enabled) == ("as_published", published["public"])
    wanted = {}
    for network, (start, end) in published["networks"].items():
        first = start if start is not None else "0"
        wanted[network] = (first, None if lives(published, network, end) else end)
    found = {}
    for network in table.networks:
        first, last = (network.start_index, network.end_index) if integer else (network.start_date, network.end_date)
        found[network.name] = (str(first), None if last is None else str(last))
    assert found == wanted
    if integer:
        assert dict(table.types) == {published["column"]: "long"}
        files_of_a_partition = table.partition.coarse_chunks * table.partition.chunk_size
        assert files_of_a_partition in {25_000, 100_000, 5_000_000}


@needs_list
def test_what_lives_and_what_has_ended_is_told_apart():
    """The rule by which the test above expects an end, on cases that a person can check."""
    ended = Counter(
        lives(table, network, end) for table in PUBLISHED.values() for network, (_, end) in table["networks"].items()
    )
    assert ended[True] > ended[False] > 50
    assert lives(PUBLISHED["canonical_execution_nonce_reads"], "sepolia", "11127000")
    assert not lives(PUBLISHED["canonical_execution_traces"], "sepolia", "9569000")
    assert not lives(PUBLISHED["libp2p_add_peer"], "mainnet", "2026-07-12")


def config_of(settings, name: str):
    network = settings.tables[name].networks[0].name
    return settings.table("production", name, network)


@pytest.mark.parametrize("profile", ["portable", "as_published"])
@pytest.mark.parametrize("real", REAL.values(), ids=REAL.keys())
def test_decisions_fit_the_real_schema_exactly(settings, real, profile):
    config = replace(config_of(settings, real["name"]), profile=profile)
    columns = [SourceColumn(name, kind) for name, kind in real["columns"].items()]
    exported = {column.name: column for column in export_columns(config, columns)}
    assert list(exported) == list(real["columns"])
    sensitive = {name for name in real["columns"] if looks_sensitive(name)}
    assert {*config.redacted_columns, *config.allowed_columns} == sensitive
    for name in sensitive:
        shown = f"`{name}`" in exported[name].expression
        assert shown == (name == "peer_id_unique_key"), name


@pytest.mark.parametrize("real", REAL.values(), ids=REAL.keys())
def test_final_is_right_on_every_real_table_as_config_knows_it(settings, real):
    config = config_of(settings, real["name"])
    check_sharding(config.name, real["sharding_key"], real["order_by"], list(real["columns"]), config.sharding_follows)


def test_the_patterns_written_down_are_those_that_hold_without_any(settings):
    assert all(table.sensitive_patterns == SENSITIVE for table in settings.tables.values())


@pytest.mark.parametrize("name", ENABLED)
def test_exactly_what_identifies_somebody_is_redacted_and_only_keys_are_shown(settings, name):
    table = config_of(settings, name)
    [client] = [columns for prefix, columns in FAMILIES.items() if name.startswith(prefix)]
    assert set(table.redacted_columns) == client | MEETINGS.get(name, set())
    shown = {"peer_id_unique_key"} if name.startswith("libp2p_") else set()
    assert set(table.allowed_columns) == ALLOWED.get(name, shown)


@needs_list
def test_what_is_redacted_is_what_the_publication_redacts():
    said = yaml.safe_load((XATU / "layout_and_redaction.yaml").read_text(encoding="utf-8"))["redaction"]
    branches = said["exporter_branch_redactions"]
    assert set(branches["beacon_api_and_mempool"]) == CLIENT
    # For libp2p the same places are named, and no address; everywhere the address and the coordinates are withheld.
    assert set(said["readme_always"].values()) == {"meta_client_ip", *(f"meta_client_geo_{part}" for part in PLACE[:2])}
    assert set(branches["libp2p"]) == {"meta_client_peer_id", "meta_client_geo_*"}
    # No real table has that id; one that gains it stops.
    assert looks_sensitive("meta_client_peer_id")
    assert not any("meta_client_peer_id" in table["columns"] for table in REAL.values())
    # What a contributor may withhold is withheld from all, but for what is shown of everybody.
    withheld = {
        f"meta_client_geo_{part}" for parts in said["privacy_groups"].values() for part in parts if " " not in part
    }
    assert withheld - CLIENT == {name for name in branches["not_redacted"] if name.startswith("meta_client_geo_")}
