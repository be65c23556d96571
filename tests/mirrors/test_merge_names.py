"""Columns of rows that are called as ours are: they are data where config says that ours are called otherwise."""

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import MirrorInput, VerifyMirrorInput
from activities.core.faults import BadConfig
from activities.core.iceberg_types import parse_iceberg
from activities.lake.schema import fields_schema
from activities.mirror_index import rebuild_index
from activities.verifymirror import verify_mirror
from support.mirrors import Row, opened, same_by_all_readers

TEXTS = ("cdc_operation", "cdc_sequence_number", "cdc_lsn", "cdc_timestamp", "cdc_unchanged", "file_path")
"""Names that our ingest, our defaults and position delete files have."""
FIELDS = {"id": "long", "op": "string", "position": "long", "kept": "list<string>", **dict.fromkeys(TEXTS, "string")}
OTHERS = {"sequence_column": "position", "operation_column": "op", "unchanged_column": "kept", "metadata_columns": ()}


def row(op, key, number, mark, **values):
    return Row(op, {"id": key, "position": number, **{name: f"{name} {mark}" for name in TEXTS}, **values}, number)


def expected(key, number, mark, **values):
    return {"id": key, "position": number, **{name: f"{name} {mark}" for name in TEXTS}, **values}


def make(mirror):
    mirror.make_table(
        mirror.config.changelog, fields_schema({name: parse_iceberg(kind) for name, kind in FIELDS.items()})
    )


async def test_columns_of_rows_that_are_called_like_ours_are_the_rows_through_all_that_is_done_to_a_mirror_case_54(
    fleet,
):
    async with opened(fleet, None, **OTHERS) as mirror:
        make(mirror)
        asked = MirrorInput(fleet.name, mirror.config.mirror)

        async def run(work, request=asked):
            return await ActivityEnvironment().run(work, mirror.context, request)

        # What they hold would be an operation, a greater number, or the name of a column if anybody took it for one.
        ours = {"cdc_operation": "delete", "cdc_sequence_number": "f" * 32, "cdc_unchanged": "id"}
        mirror.append([row("insert", 1, 1, "a"), row("insert", 2, 2, "b", **ours), row("insert", 3, 3, "c")])
        await mirror.merge()
        assert [field.name for field in mirror.table().schema().fields] == ["id", "position", *TEXTS]
        mirror.append([row("update", 1, 5, "d"), row("delete", 3, 6, "gone"), row("update", 1, 4, "late", **ours)])
        assert (await mirror.merge()).superseded == 1
        mirror.append([row("update", 2, 7, "e", cdc_operation=None, kept=["cdc_operation"])])
        await mirror.merge()
        rows = [expected(1, 5, "d"), expected(2, 7, "e", cdc_operation="delete")]
        assert mirror.rows() == rows
        assert (await mirror.compact(thorough=True)).rows == 2
        await run(rebuild_index)
        mirror.check_index()
        assert mirror.rows() == rows
        verified = await run(verify_mirror, VerifyMirrorInput(fleet.name, mirror.config.mirror))
        assert (verified.status, verified.index) == ("equal", "whole")
        await run(bootstrap_mirror)
        mirror.check_index()
        assert mirror.rows() == rows
        [read] = same_by_all_readers(fleet, [mirror.config.mirror])
        assert read == [tuple(one.values()) for one in rows]


async def test_a_column_of_rows_that_would_be_taken_for_ours_is_refused_with_what_to_say_in_config_case_54(fleet):
    async with opened(fleet, None, **{**OTHERS, "unchanged_column": "cdc_unchanged"}) as mirror:
        make(mirror)
        mirror.append([row("insert", 1, 1, "a")])
        with pytest.raises(BadConfig, match=r"column cdc_unchanged: .* list<string>; mend `unchanged_column`"):
            await mirror.merge()
        assert mirror.rows() == []
        mirror.configure(unchanged_column="kept")
        await mirror.merge()
        assert mirror.read("id", *TEXTS) == [(1, *(f"{name} a" for name in TEXTS))]
