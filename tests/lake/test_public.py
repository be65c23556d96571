"""The public copy of a table's metadata says what the source says, with other paths, and nothing private."""

import json
from dataclasses import replace

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntryStatus, read_manifest_list

from activities.core.faults import BadConfig
from activities.core.publication import place_of
from activities.lake.public import list_copy, manifest_copy, manifests_named, public_head
from support.direct import Hands
from support.traces import avro_blocks

URL = "https://data.example.org"


@pytest.fixture
async def hands(fleet):
    await fleet.make_hours(hours=5, rows=3)
    async with fleet.context() as context:
        yield Hands(fleet, context)


def fields(record, *but):
    """Every field of a manifest's entry or file but some, by name."""
    names = [
        name for name in dir(type(record)) if isinstance(getattr(type(record), name), property) and name not in but
    ]
    return {name: getattr(record, name) for name in names}


async def merged_and_replaced(hands):
    """A table whose manifests hold files that were added, kept and removed, by many snapshots."""
    plan = await hands.plan(oldest_first=True)
    files = await hands.export_all(plan)
    await hands.commit(files[:1])
    hands.fleet.table().transaction().set_properties({"commit.manifest.min-count-to-merge": "3"}).commit_transaction()
    for file in files[1:]:
        await hands.commit([file])
    forced = Hands(hands.fleet, hands.context, request_id="forced")
    again = await forced.plan(from_="2024-03-20T22", to="2024-03-20T23", force=True)
    await forced.commit(await forced.export_all(again))


async def test_a_copy_keeps_all_of_every_entry_but_paths_and_says_nothing_private(fleet, hands, tmp_path):
    await merged_and_replaced(hands)
    table, config = fleet.table(), hands.context.find_table("events", fleet.network)
    place = place_of(config, fleet.network, "icefleet", URL, "")
    head = public_head(table, place)
    local = PyArrowFileIO()

    def kept(key, body):
        (tmp_path / key.rpartition("/")[2]).write_bytes(body)
        return str(tmp_path / key.rpartition("/")[2])

    copies = {path: manifest_copy(table, path, place) for path in head.manifests}
    where = {path: kept(place.copy(path), body) for path, body in copies.items()}
    lengths = {path: len(body) for path, body in copies.items()}
    body = list_copy(table, head.manifest_list, place, lengths)
    published = list(read_manifest_list(local.new_input(kept("list.avro", body))))
    sources = table.current_snapshot().manifests(table.io)

    assert manifests_named(body) == {place.at(place.copy(path)) for path in head.manifests}
    statuses = set()
    for source, copy in zip(sources, published, strict=True):
        assert fields(copy, "manifest_path", "manifest_length") == fields(source, "manifest_path", "manifest_length")
        assert copy.manifest_path == f"{URL}/{place.copy(source.manifest_path)}"
        assert copy.manifest_length == len(copies[source.manifest_path])
        copy[0] = where[source.manifest_path]
        theirs = source.fetch_manifest_entry(table.io, discard_deleted=False)
        ours = copy.fetch_manifest_entry(local, discard_deleted=False)
        for one, other in zip(theirs, ours, strict=True):
            statuses.add(one.status)
            assert fields(other, "data_file") == fields(one, "data_file")
            assert fields(other.data_file, "file_path") == fields(one.data_file, "file_path")
            assert other.data_file.file_path == one.data_file.file_path.replace("s3://icefleet/", f"{URL}/")
    assert statuses == set(ManifestEntryStatus)
    assert sum(len(avro_blocks(copy)) for copy in copies.values()) >= len(copies)

    said = [head.metadata, body, *avro_blocks(body)]
    said += [piece for copy in copies.values() for piece in (copy, *avro_blocks(copy))]
    for private in (b"s3:", b"icefleet", b"127.0.0.1", b"lake/", str(fleet.name).encode(), b"workflow", b"request"):
        assert [piece for piece in said if private in piece] == [], private
    assert any(fleet.network.encode() in piece for piece in said), "the search finds what is there"


async def test_the_same_head_gives_the_same_metadata_whatever_else_changes_in_the_table(fleet, hands):
    plan = await hands.plan()
    files = await hands.export_all(plan)
    await hands.commit(files[:2], [["2024-03-19T00", "2024-03-19T23"]])
    config = hands.context.find_table("events", fleet.network)
    place = place_of(config, fleet.network, "icefleet", URL, "")
    first = public_head(fleet.table(), place)
    fleet.table().transaction().set_properties({"owner": "somebody"}).commit_transaction()
    assert public_head(fleet.table(), place) == first
    metadata = json.loads(first.metadata)
    assert list(metadata["properties"]) == ["schema.name-mapping.default"]
    assert metadata["snapshots"][0]["summary"]["total-records"] == "6"
    await hands.commit(files[2:])
    assert public_head(fleet.table(), place).metadata != first.metadata


async def test_a_file_that_the_public_cannot_get_stops_the_copy_and_is_named(fleet, hands):
    await hands.run()
    table, config = fleet.table(), hands.context.find_table("events", fleet.network)
    place = replace(place_of(config, fleet.network, "icefleet", URL, ""), bucket="another")
    [manifest] = public_head(table, place).manifests
    with pytest.raises(BadConfig, match=rf"table {fleet.network}.events: s3://icefleet/xatu/.*parquet lies outside"):
        manifest_copy(table, manifest, place)
