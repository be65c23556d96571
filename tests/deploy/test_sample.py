import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml

from activities.clients.clickhouse import ClickHouse, ClickHouseSettings
from activities.core.query import Query
from deploy.local import environment
from deploy.local.sample import TABLES, late_rows, mark, statements
from deploy.local.stack import Stack

BLOCKS, ATTESTATIONS, EXECUTION = (table.name for table in TABLES)
BEACON = [BLOCKS, ATTESTATIONS]
KEYS = {table.name: ", ".join(table.order_by) for table in TABLES}
ROOT = Path(__file__).parents[2]
SCALE = 0.1


class Sample:
    """A database that holds the sample, and questions about it."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.clickhouse = clickhouse
        self.database = f"sample_{uuid.uuid4().hex[:8]}"

    async def make(self, *, scale: float = 1.0) -> None:
        await self.clickhouse.command(f"CREATE DATABASE {self.database}")
        for statement in statements(cluster="local", scale=scale, database=self.database):
            await self.clickhouse.command(statement.sql)

    async def add(self, table: str, network: str, partition: str, **options: int) -> None:
        await self.clickhouse.command(late_rows(table, network, partition, database=self.database, **options).sql)

    async def rows(self, text: str, table: str) -> list[tuple]:
        """The answer to a question in which `$t` is the table."""
        found = await self.clickhouse.rows(Query(text.replace("$t", f"{self.database}.{table}")))
        return [tuple(row.values()) for row in found]

    async def row(self, text: str, table: str) -> tuple:
        (row,) = await self.rows(text, table)
        return row

    async def checksums(self) -> dict[str, int]:
        """A checksum of each table's rows; through text, since a hash of NULL is NULL and would be left out."""
        text = "SELECT groupBitXor(cityHash64(toString(tuple(*)))) FROM $t"
        return {table.name: (await self.row(text, table.name))[0] for table in TABLES}


def client(stack: Stack, threads: int) -> ClickHouse:
    return ClickHouse(
        ClickHouseSettings(
            name="local.default",
            host="127.0.0.1",
            port=stack.ports["clickhouse"],
            secure=False,
            user="icefleet",
            password=stack.environment[environment.CLICKHOUSE_PASSWORD],
            limits={"max_threads": threads},
        )
    )


@pytest.fixture(scope="module")
async def sample(stack: Stack) -> AsyncIterator[Sample]:
    """The whole sample; tests that share it only look at it."""
    made = Sample(client(stack, threads=2))
    await made.make()
    yield made
    await made.clickhouse.command(f"DROP DATABASE {made.database}")
    await made.clickhouse.close()


@pytest.fixture
async def own_sample(stack: Stack) -> AsyncIterator[Sample]:
    """The same with one thread; room for a sample of the test's own."""
    made = Sample(client(stack, threads=1))
    yield made
    await made.clickhouse.command(f"DROP DATABASE IF EXISTS {made.database}")
    await made.clickhouse.close()


def real_tables() -> dict[str, dict]:
    path = ROOT.parent / "shared" / "xatu" / "tables.yaml"
    tables = yaml.safe_load(path.read_text())["tables"] if path.exists() else []
    return {table["name"]: table for table in tables if table["name"] in KEYS}


@pytest.mark.parametrize("real", real_tables().values(), ids=lambda real: real["name"])
async def test_columns_and_keys_are_those_of_the_real_table(sample, real):
    async def ask(text: str, table: str) -> list[dict]:
        return await sample.clickhouse.rows(Query(text, {"database": sample.database, "table": table}))

    columns = "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}"
    keys = "SELECT * FROM system.tables WHERE database = {database:String} AND name = {table:String}"
    for name in (real["name"], real["local_table"]):
        found = await ask(f"{columns} ORDER BY position", name)
        assert [(row["name"], row["type"]) for row in found] == list(real["columns"].items())
    ((distributed,), (local,)) = await ask(keys, real["name"]), await ask(keys, real["local_table"])
    assert local["engine_full"].startswith(f"ReplacingMergeTree({real['engine_version_column']}) ")
    assert local["partition_key"] == real["partition_by"]
    assert local["sorting_key"] == ", ".join(real["order_by"])
    assert distributed["engine_full"] == (
        f"Distributed('local', '{sample.database}', '{real['local_table']}', {real['sharding_key']})"
    )


async def test_the_sample_is_the_same_every_time_with_any_number_of_threads(sample, own_sample):
    await own_sample.make()
    assert await own_sample.checksums() == await sample.checksums()


async def test_the_sample_is_the_same_everywhere(sample):
    assert await sample.checksums() == {
        BLOCKS: 12758891379929339102,
        ATTESTATIONS: 16215976992646501474,
        EXECUTION: 2710140319413294910,
    }


@pytest.mark.parametrize(
    ("table", "stored", "latest"),
    [
        (BLOCKS, {"holesky": 15_486, "mainnet": 30_663}, {"holesky": 14_661, "mainnet": 28_927}),
        (ATTESTATIONS, {"holesky": 31_178, "mainnet": 164_325}, {"holesky": 29_358, "mainnet": 155_016}),
        (EXECUTION, {"holesky": 5_833, "mainnet": 5_834}, {"holesky": 5_500, "mainnet": 5_500}),
    ],
)
async def test_rows_that_came_again_collapse_with_final_to_one_of_each_key(sample, table, stored, latest):
    async def by_network(what: str, source: str) -> dict[str, int]:
        return dict(await sample.rows(f"SELECT meta_network_name, {what} FROM {source} GROUP BY ALL", table))

    assert await by_network("count()", "$t") == stored
    assert await by_network("count()", "$t FINAL") == latest
    assert await by_network(f"uniqExact(tuple({KEYS[table]}))", "$t") == latest


@pytest.mark.parametrize("table", KEYS)
async def test_the_newest_version_wins_also_over_an_older_one_that_came_after_it(sample, table):
    payload = "gas_used" if table == EXECUTION else "propagation_slot_start_diff"
    again, right, corrected, replayed = await sample.row(
        f"""
        SELECT count(), countIf(kept = newest), countIf(kept != first), countIf(kept = first)
        FROM (SELECT tuple({KEYS[table]}) AS key, any({payload}) AS kept FROM $t FINAL GROUP BY key) AS latest
        JOIN (
            SELECT tuple({KEYS[table]}) AS key, argMax({payload}, updated_date_time) AS newest,
                min({payload}) AS first
            FROM $t WHERE {payload} IS NOT NULL GROUP BY key HAVING count() > 1
        ) AS stored USING (key)
        """,
        table,
    )
    assert again == right
    assert corrected > 100  # each version's payload is larger than that of the version before it
    assert replayed > 100  # a row that came again, older than the one that was there, lost


@pytest.mark.parametrize("table", KEYS)
async def test_some_corrections_are_merged_and_others_wait(sample, table):
    parts = f"SELECT rows FROM system.parts WHERE active AND database = '{sample.database}' AND table = '{table}_local'"
    sizes = sorted(
        (row[0] for row in await sample.rows(f"{parts} AND partition LIKE '%mainnet%'", table)), reverse=True
    )
    (latest,) = await sample.row("SELECT count() FROM $t FINAL WHERE meta_network_name = 'mainnet'", table)
    version = "gas_used % 10" if table == EXECUTION else "meta_consensus_version_patch"
    assert sizes[0] == latest
    assert len(sizes) >= 3
    assert sum(sizes[1:]) > 300
    assert len(await sample.rows(f"SELECT DISTINCT {version} FROM $t", table)) > 1


async def test_attestations_have_one_empty_hour_between_full_ones(sample):
    hours = dict(
        await sample.rows(
            "SELECT meta_network_name, arraySort(groupUniqArray(intDiv(toUnixTimestamp(slot_start_date_time), 3600))) "
            "FROM $t GROUP BY ALL",
            ATTESTATIONS,
        )
    )
    midnight = 1_710_892_800 // 3600  # 2024-03-20
    assert [hour - midnight for hour in hours["mainnet"]] == [hour for hour in range(30) if hour != 13]
    assert [hour - midnight for hour in hours["holesky"]] == [hour for hour in range(18, 30) if hour != 22]


async def test_block_events_fill_four_days(sample):
    days = await sample.rows(
        "SELECT meta_network_name, toString(toDate(slot_start_date_time, 'UTC')) AS d, count() > 3000 FROM $t "
        "GROUP BY ALL ORDER BY ALL",
        BLOCKS,
    )
    assert days == [(network, f"2024-03-{day}", 1) for network in ("holesky", "mainnet") for day in range(18, 22)]


async def test_execution_blocks_fill_five_chunks_and_begin_a_sixth(sample):
    chunks = await sample.rows(
        "SELECT meta_network_name, intDiv(block_number, 1000), count() FROM $t FINAL GROUP BY ALL ORDER BY ALL",
        EXECUTION,
    )
    full = [1000] * 5 + [500]
    assert chunks == [(n, chunk, rows) for n in ("holesky", "mainnet") for chunk, rows in enumerate(full)]


@pytest.mark.parametrize("table", BEACON)
async def test_slots_and_epochs_follow_the_genesis_of_their_network(sample, table):
    genesis = "if(meta_network_name = 'mainnet', 1606824023, 1695902400)"
    (wrong,) = await sample.row(
        f"""
        SELECT countIf(toUnixTimestamp(slot_start_date_time) != {genesis} + slot * 12 OR epoch != intDiv(slot, 32)
            OR toUnixTimestamp(epoch_start_date_time) != {genesis} + epoch * 384
            OR toUnixTimestamp64Milli(event_date_time)
                != toUnixTimestamp(slot_start_date_time) * 1000 + propagation_slot_start_diff)
        FROM $t
        """,
        table,
    )
    assert wrong == 0


@pytest.mark.parametrize("table", BEACON)
async def test_some_rows_come_hours_and_days_after_their_slot(sample, table):
    hours, days = await sample.row(
        "SELECT countIf(propagation_slot_start_diff > 7200000), countIf(propagation_slot_start_diff > 86400000) "
        "FROM $t WHERE updated_date_time > event_date_time - 1",
        table,
    )
    assert hours > days > 10


async def test_an_attestation_votes_for_the_block_of_its_slot(sample):
    (known, unknown) = await sample.row(
        f"""
        SELECT countIf(b.block != ''), countIf(b.block = '')
        FROM (SELECT DISTINCT beacon_block_root AS root FROM $t) AS a
        LEFT JOIN (SELECT DISTINCT toString(block) AS block FROM {sample.database}.{BLOCKS}) AS b
        ON toString(a.root) = b.block
        """,
        ATTESTATIONS,
    )
    # A client reports one block in six, so some were voted for and seen by nobody.
    assert known > unknown > 0
    assert await sample.row(
        r"SELECT countIf(NOT match(beacon_block_root, '^0x[0-9a-f]{64}$')) FROM $t", ATTESTATIONS
    ) == (0,)


async def test_extremes_are_there_integers_texts_nulls_addresses(sample):
    integers, largest, without_fee = await sample.row(
        "SELECT countIf(base_fee_per_gas > 9223372036854775807), max(base_fee_per_gas), "
        "countIf(base_fee_per_gas IS NULL) FROM $t FINAL",
        EXECUTION,
    )
    assert (integers, largest, without_fee > 500) == (22, 2**64 - 1, True)
    (texts,) = await sample.row("SELECT groupUniqArray(extra_data_string) FROM $t", EXECUTION)
    assert {"", "以太坊矿工", "🦄 geth/v1.13.14 🚀", "Grüße aus Zürich, ça va?"} <= set(texts)
    assert await sample.row(
        "SELECT countIf(extra_data_string IS NULL) > 300, countIf(NOT isValidUTF8(extra_data_string)) FROM $t",
        EXECUTION,
    ) == (1, 0)
    for table in BEACON:
        (cities,) = await sample.row("SELECT groupUniqArray(meta_client_geo_city) FROM $t", table)
        assert {"", "Zürich", "São Paulo", "東京"} <= set(cities)
        mapped, real, unknown, west = await sample.row(
            "SELECT countIf(startsWith(toString(meta_client_ip), '::ffff:')), "
            "countIf(startsWith(toString(meta_client_ip), '2001:db8:')), countIf(meta_client_ip IS NULL), "
            "countIf(meta_client_geo_longitude < 0) FROM $t",
            table,
        )
        assert min(mapped, real, unknown, west) > 1000


async def test_late_rows_make_one_partition_newer_than_all_that_was_there(own_sample):
    await own_sample.make(scale=SCALE)
    for table, partition, label in (
        (BLOCKS, "2024-03-20", "toString(toDate(slot_start_date_time, 'UTC'))"),
        (ATTESTATIONS, "2024-03-20T13", "formatDateTime(slot_start_date_time, '%Y-%m-%dT%H', 'UTC')"),
        (EXECUTION, "3000", "toString(intDiv(block_number, 1000) * 1000)"),
    ):
        (before,) = await own_sample.row("SELECT max(updated_date_time) FROM $t", table)
        await own_sample.add(table, "mainnet", partition, serial=1, count=20)
        await own_sample.add(table, "mainnet", partition, serial=2, count=20)
        late = await own_sample.rows(
            f"SELECT DISTINCT meta_network_name, {label}, intDiv(toUnixTimestamp(updated_date_time), 3600) AS hour "
            f"FROM $t WHERE updated_date_time > toDateTime({int(before.timestamp())}) ORDER BY hour",
            table,
        )
        one, two = late
        assert one[:2] == two[:2] == ("mainnet", partition)
        assert one[2] + 1 == two[2]


class Command:
    """`icefleet seed` against a ClickHouse of the test's own."""

    def __init__(self, port: int, password: str) -> None:
        self._variables = {
            "ICEFLEET_LOCAL_CLICKHOUSE_PORT": str(port),
            "ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD": password,
        }

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / "icefleet", "seed", "--scale", str(SCALE), *words],
            cwd=ROOT,
            env={**os.environ, **self._variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def fresh(own_endpoint: Callable):
    """A ClickHouse without tables, and the command that seeds it."""
    http = own_endpoint()
    return http, Command(http.server.port, http.server.password)


async def test_a_second_seed_says_that_the_sample_is_there_and_changes_nothing(fresh):
    http, seed = fresh
    first = seed()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(
        f"filling {BLOCKS} ...\nfilling {ATTESTATIONS} ...\nfilling {EXECUTION} ...\nseeded "
    )
    await http.ask(late_rows(BLOCKS, "mainnet", "2024-03-20").sql)
    rows = await http.rows_in(BLOCKS)
    second = seed()
    assert (second.returncode, second.stdout.splitlines()[0]) == (
        0,
        "local.default holds the sample already; --replace makes it anew (scale 0.1)",
    )
    assert await http.rows_in(BLOCKS) == rows
    other = seed("--scale", "0.2")
    assert (other.returncode, "add --replace" in other.stderr) == (2, True)
    anew = seed("--replace", "--json")
    report = json.loads(anew.stdout)
    assert report["created"]
    assert report["tables"][EXECUTION]["mainnet"] == {"rows": 5834, "latest": 5500}
    assert await http.rows_in(BLOCKS) < rows


async def test_a_seed_that_was_interrupted_is_begun_again(fresh):
    http, seed = fresh
    for statement in statements(cluster="local", scale=SCALE):
        if statement.title.startswith(f"{ATTESTATIONS}: merge"):
            break
        await http.ask(statement.sql)
    done = seed()
    assert (done.returncode, done.stdout.splitlines()[3]) == (0, "seeded local.default (scale 0.1)")
    marks = await http.ask(
        "SELECT DISTINCT comment FROM system.tables WHERE name LIKE '%_local' AND database = 'default'"
    )
    assert marks == f"{mark(SCALE)}\n"


async def test_tables_that_seed_did_not_make_are_never_touched(fresh):
    http, seed = fresh
    await http.ask(f"CREATE TABLE {EXECUTION} (precious UInt8) ENGINE = MergeTree ORDER BY ()")
    await http.ask(f"INSERT INTO {EXECUTION} SELECT 1")
    refused = seed("--replace", "--yes-create-tables")
    assert refused.returncode == 2
    assert f"tables that `seed` did not make, and does not touch: {EXECUTION};" in refused.stderr
    assert await http.ask("SELECT name FROM system.tables WHERE database = 'default'") == f"{EXECUTION}\n"
    assert await http.rows_in(EXECUTION) == 1


def test_no_environment_but_local_is_seeded_by_accident():
    refused = Command(1, "none")("--source", "production.default")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: production.default is not in the environment `local`, and `seed` makes tables: "
        "add --yes-create-tables if you mean it\n"
    )
