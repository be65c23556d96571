"""How a mirror's columns follow those of its changelog."""

from dataclasses import replace

import pytest

from activities.core.drift import AddField, RenameField, WidenField
from activities.core.faults import SchemaConflict
from activities.core.iceberg_types import parse_iceberg
from activities.core.mirrors import MirrorConfig
from activities.core.mirrorschema import ChangelogField, follow

STRICT = MirrorConfig("n.orders_changelog", "n.orders", ("id",))
PERMISSIVE = replace(STRICT, schema="permissive")
SEQUENCE = "00000000000001a0" + "0" * 16


def fields(**columns):
    """Name → (id, type)."""
    ours = ChangelogField("cdc_sequence_number", 2, parse_iceberg("string"))
    return [ours, *(ChangelogField(name, number, parse_iceberg(kind)) for name, (number, kind) in columns.items())]


def types(**columns):
    return {"cdc_sequence_number": parse_iceberg("string")} | {
        name: parse_iceberg(kind) for name, kind in columns.items()
    }


KNOWN = {"cdc_sequence_number": "2", "id": "6", "name": "7"}
HELD = types(id="int", name="string")


def test_a_mirror_that_is_as_its_changelog_changes_nothing_in_either_mode():
    now = fields(id=(6, "int"), name=(7, "string"))
    for config in (STRICT, PERMISSIVE):
        found = follow(config, now, KNOWN, HELD, until=SEQUENCE)
        assert (found.changes, found.columns) == ((), KNOWN)


def test_what_is_added_renamed_and_widened_is_followed_by_the_ids_of_fields():
    now = fields(id=(6, "long"), title=(7, "string"), name=(8, "long"))
    found = follow(PERMISSIVE, now, KNOWN, HELD, until=SEQUENCE)
    assert found.changes == (
        RenameField("name", "title"),
        WidenField("id", parse_iceberg("long")),
        AddField("name", parse_iceberg("long")),
    )
    assert found.columns == {"cdc_sequence_number": "2", "id": "6", "title": "7", "name": "8"}


def test_columns_that_change_their_names_in_a_circle_go_by_a_spare_one():
    now = fields(id=(6, "int"), a=(8, "string"), b=(7, "string"))
    known = {"cdc_sequence_number": "2", "id": "6", "a": "7", "b": "8"}
    found = follow(PERMISSIVE, now, known, types(id="int", a="string", b="string"), until=SEQUENCE)
    names = ["cdc_sequence_number", "id", "a", "b"]
    for change in found.changes:
        assert isinstance(change, RenameField)
        assert change.new not in names
        names[names.index(change.old)] = change.new
    assert names == ["cdc_sequence_number", "id", "b", "a"]


def test_a_column_that_is_dropped_stays_and_makes_way_for_another_of_its_name_case_50():
    gone = follow(PERMISSIVE, fields(id=(6, "int")), KNOWN, HELD, until=SEQUENCE)
    assert (gone.changes, gone.columns) == ((), {"cdc_sequence_number": "2", "id": "6"})
    again = fields(id=(6, "int"), name=(9, "long"))
    for known in (KNOWN, gone.columns):  # dropped and added between two merges, or one after the other
        assert follow(PERMISSIVE, again, known, HELD, until=SEQUENCE).changes == (
            RenameField("name", "name_until_1a0"),
            AddField("name", parse_iceberg("long")),
        )
    taken = {**HELD, "name_until_1a0": parse_iceberg("string")}
    assert follow(PERMISSIVE, again, KNOWN, taken, until=SEQUENCE).changes[0] == RenameField("name", "name_until_1a0_2")


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (fields(id=(6, "int"), name=(7, "string"), more=(8, "date")), "more \\(date\\) is new"),
        (fields(id=(6, "int"), title=(7, "string")), "name is called title"),
        (fields(id=(6, "long"), name=(7, "string")), "id is long"),
        (fields(id=(6, "int")), "name is gone"),
    ],
)
def test_a_strict_mirror_says_what_changed_and_the_way_out(now, says):
    with pytest.raises(SchemaConflict, match=f"n.orders: .*{says}.*schema: permissive"):
        follow(STRICT, now, KNOWN, HELD, until=SEQUENCE)


def test_a_mirror_that_merged_nothing_yet_takes_what_is_there_now_also_when_it_is_strict():
    now = fields(id=(6, "long"), name=(7, "string"), more=(8, "date"))
    found = follow(STRICT, now, KNOWN, HELD)
    assert found.changes == (WidenField("id", parse_iceberg("long")), AddField("more", parse_iceberg("date")))


def test_a_mirror_that_begins_again_knows_its_columns_by_their_names():
    found = follow(STRICT, fields(id=(16, "int"), name=(17, "string")), None, HELD, until=SEQUENCE)
    assert (found.changes, found.columns) == ((), {"cdc_sequence_number": "2", "id": "16", "name": "17"})


def test_a_key_that_is_another_column_now_and_types_that_cannot_follow_are_refused_case_51():
    with pytest.raises(SchemaConflict, match=r"column id .* is another one than before .*--bootstrap"):
        follow(PERMISSIVE, fields(id=(9, "int"), name=(7, "string")), KNOWN, HELD, until=SEQUENCE)
    with pytest.raises(SchemaConflict, match="name is string, and list<string> in"):
        follow(PERMISSIVE, fields(id=(6, "int"), name=(7, "list<string>")), KNOWN, HELD, until=SEQUENCE)
