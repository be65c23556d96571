"""Keys and sequence numbers of every kind are held apart and found again, in one batch and in later ones."""

import unicodedata
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import MergeInput, MirrorInput, VerifyMirrorInput
from activities.core.faults import BadConfig
from activities.merging import merge_mirror
from activities.mirror_index import rebuild_index
from activities.verifymirror import verify_mirror
from support.mirrors import Row, opened, same_by_all_readers

NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
KINDS = {
    "long": [0, -1, 2**63 - 1, -(2**63), None],  # case 14
    "string": ["", "0", "a|b", NFC, NFD, "\x00", None],  # cases 14, 17
    "uuid": [uuid.UUID(int=1), uuid.UUID(int=1 << 127), None],
    "decimal(20, 4)": [Decimal("1.5000"), Decimal("-1.5000"), Decimal("1.5001"), Decimal(0), None],
    "double": [0.5, float("inf"), float("nan"), None],
    "timestamptz": [datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None],
    "binary": [b"", b"\x00", b"\x00\x00", None],
    "boolean": [True, False, None],
}


def stored(kind, value):
    """As Arrow takes it."""
    return value.bytes if kind == "uuid" and value is not None else value


@pytest.mark.parametrize("kind", KINDS)
async def test_keys_of_every_type_are_apart_in_a_batch_and_known_in_the_next_cases_14_17(fleet, kind):
    async with opened(fleet, {"id": kind, "name": "string"}) as mirror:
        values = [stored(kind, one) for one in KINDS[kind]]
        await mirror.write(*(Row("insert", {"id": one, "name": "first"}) for one in values))
        assert (await mirror.merge()).upserted == len(values)
        await mirror.write(*(Row("update", {"id": one, "name": "second"}) for one in values[1:]))
        await mirror.write(Row("delete", {"id": values[0]}))
        report = await mirror.merge()
        assert (report.upserted, report.deleted) == (len(values) - 1, 1)
        assert [row["name"] for row in mirror.rows()] == ["second"] * (len(values) - 1)
        mirror.check_index()


async def test_zeros_and_nans_of_any_kind_are_one_key_case_17(fleet):
    async with opened(fleet, {"id": "double", "name": "string"}) as mirror:
        quiet = float("nan")
        await mirror.write(*(Row("insert", {"id": one, "name": "first"}) for one in (0.0, quiet, 1.0)))
        await mirror.merge()
        await mirror.write(*(Row("update", {"id": one, "name": "second"}) for one in (-0.0, -quiet)))
        await mirror.merge()
        assert sorted(mirror.read("name")) == [("first",), ("second",), ("second",)]


async def test_composite_keys_are_told_apart_wherever_the_border_is_case_15(fleet):
    fields = {"a": "string", "b": "string", "n": "long", "name": "string"}
    pairs = [
        ("a|b", "c", 1),
        ("a", "b|c", 1),
        ("a", "b", 1),
        ("", "ab", 1),
        ("ab", "", 1),
        (None, "ab", 1),
        ("ab", None, 1),
    ]
    async with opened(fleet, fields, primary_keys=("a", "b", "n")) as mirror:
        rows = [Row("insert", {"a": a, "b": b, "n": n, "name": "x"}) for a, b, n in pairs]
        await mirror.write(*rows)
        assert (await mirror.merge()).upserted == len(pairs)
        await mirror.write(*(Row("delete", row.values) for row in rows[:2]))
        assert (await mirror.merge()).deleted == 2
        assert sorted(mirror.read("a", "b"), key=repr) == sorted((pair[:2] for pair in pairs[2:]), key=repr)
        mirror.check_index()


@pytest.mark.parametrize(
    ("kind", "written", "numbers"),
    [
        ("long", "auto", [9, 10, 2**62]),
        ("int", "auto", [9, 10, 2**30]),
        ("decimal(38, 0)", "auto", [Decimal(9), Decimal(10), Decimal(2**100)]),
        ("string", "decimal", ["9", "10", str(2**100)]),
        ("string", "hex", ["9", "A", "0a00"]),
        ("string", "auto", ["9", "a", "a0"]),
    ],
)
async def test_sequence_numbers_are_compared_as_numbers_whatever_they_are_written_as_case_11(
    fleet, kind, written, numbers
):
    fields = {"id": "long", "name": "string", "op": "string", "position": kind}
    config = {"sequence_column": "position", "operation_column": "op", "sequence_format": written}
    ours = ("cdc_operation", "cdc_sequence_number", "cdc_lsn", "cdc_timestamp", "cdc_unchanged")
    async with opened(fleet, fields, metadata_columns=ours, **config) as mirror:

        def row(op, key, number, name):
            # The operation is another column than ours.
            return Row("insert", {"id": key, "name": name, "op": op, "position": number})

        first, second, third = numbers
        mirror.append([row("c", 1, first, "a"), row("U", 1, second, "b"), row("r", 2, second, "c")])
        await mirror.merge()
        assert mirror.read("id", "name") == [(1, "b"), (2, "c")]
        mirror.append([row("u", 1, first, "late"), row("d", 2, third, None), row("u", 2, second, "late")])
        report = await mirror.merge()
        assert (report.upserted, report.deleted) == (0, 1)
        mirror.append([row("update", 1, third, "d"), row("create", 2, second, "late")])
        await mirror.merge()
        assert mirror.read("id", "name") == [(1, "d")]
        mirror.check_index()
        [rows] = same_by_all_readers(fleet, [mirror.config.mirror])
        assert len(rows) == 1


@pytest.mark.parametrize(
    ("position", "first", "then", "changed"),
    [
        ("string", "1000", "1001", {"sequence_format": "decimal"}),  # 0x1000 is more than 1001
        ("long", 1_000_000, 1_000_001, {"sequence_column": "revision"}),
    ],
)
async def test_other_sequence_numbers_than_a_mirror_was_made_with_are_refused_until_it_begins_again(
    fleet, position, first, then, changed
):
    fields = {"id": "long", "name": "string", "position": position, "revision": "long"}
    ours = ("cdc_sequence_number", "cdc_lsn", "cdc_timestamp", "cdc_unchanged")
    async with opened(fleet, fields, metadata_columns=ours, sequence_column="position") as mirror:
        asked = MirrorInput(fleet.name, mirror.config.mirror)

        def row(name, position, revision):
            return Row("insert", {"id": 1, "name": name, "position": position, "revision": revision})

        mirror.append([row("old", first, 1)])
        await mirror.merge()
        mirror.configure(**changed)
        mirror.append([row("new", then, 2)])
        for work, request in (
            (merge_mirror, MergeInput(fleet.name, mirror.config.mirror)),
            (rebuild_index, asked),
            (verify_mirror, VerifyMirrorInput(fleet.name, mirror.config.mirror)),
        ):
            with pytest.raises(BadConfig, match=r"other sequence numbers .*--bootstrap"):
                await ActivityEnvironment().run(work, mirror.context, request)
        assert mirror.read("name") == [("old",)]
        await ActivityEnvironment().run(bootstrap_mirror, mirror.context, asked)
        assert mirror.read("name") == [("new",)]
        assert (await mirror.merge()).commits == 0


async def test_keys_whose_first_halves_meet_stay_apart_case_16(fleet, monkeypatch):
    """Hashes of 128 bits of which half is forced to be the same."""
    from activities.core import keyhash  # noqa: PLC0415 - beside what is done to it
    from activities.core.mirrors import Keys  # noqa: PLC0415

    whole = keyhash.hashed

    def half(messages, offsets):
        keys = whole(messages, offsets)
        return Keys(keys.high % 3, keys.low)

    monkeypatch.setattr(keyhash, "hashed", half)
    async with opened(fleet, {"id": "string", "name": "string"}) as mirror:
        await mirror.write(*(Row("insert", {"id": f"k{key}", "name": "a"}) for key in range(40)))
        await mirror.merge()
        await mirror.write(*(Row("update", {"id": f"k{key}", "name": "b"}) for key in range(0, 40, 3)))
        await mirror.write(*(Row("delete", {"id": f"k{key}"}) for key in range(1, 40, 3)))
        await mirror.merge()
        mirror.check()
        mirror.check_index()
