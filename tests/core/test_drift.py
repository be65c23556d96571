"""Cases 49, 50, 51, 54, 55: what a changelog's fields become when its source changes, however that comes in batches."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.changelogs import ChangelogRules, SystemColumns, sequence_number
from activities.core.drift import (
    AddField,
    ChangelogColumns,
    RenameField,
    WidenField,
    first_columns,
    plan_drift,
    types_of,
)
from activities.core.faults import BadConfig, ChangelogForeign, SchemaConflict
from activities.core.iceberg_types import parse_iceberg, widens
from activities.core.sourcetables import SourceColumn, SourceTable

RULES = ChangelogRules()
SYSTEM = dict.fromkeys(SystemColumns().names, parse_iceberg("string"))


def at(number):
    return sequence_number(0x16B3748 + number, 0)


def table(*columns, key=("id",)):
    """Columns as `name type id`."""
    parsed = [column.split(" ") for column in ("id bigint 1", *columns)]
    return SourceTable(
        "public", "t", tuple(SourceColumn(n, t, int(i) if i != "-" else None) for n, t, i in parsed), key
    )


@dataclass
class Changelog:
    """A stand-in for the Iceberg table: name → (field id, type), changed as `changes` say."""

    columns: ChangelogColumns
    fields: dict = field(default_factory=dict)

    @classmethod
    def of(cls, first):
        types = SYSTEM | types_of(first)
        return cls(first, {name: (place, kind) for place, (name, kind) in enumerate(types.items(), 1)})

    @property
    def types(self):
        return {name: kind for name, (_, kind) in self.fields.items()}

    def take(self, events):
        """Make the changes of one batch, one after the other, and answer what it planned."""
        drift = plan_drift(self.columns, self.types, events)
        for change in drift.changes:
            match change:
                case AddField(name, kind):
                    assert name not in self.fields
                    self.fields[name] = (len(self.fields) + 1, kind)
                case RenameField(old, new):
                    assert new not in self.fields
                    self.fields[new] = self.fields.pop(old)
                case WidenField(name, kind):
                    number, before = self.fields[name]
                    assert widens(before, kind)
                    assert before != kind
                    self.fields[name] = (number, kind)
        self.columns = drift.columns
        assert drift.types == self.types
        return drift

    def places(self, step):
        """Source column → the id of the field that its values of this step go to."""
        return {one.source.name: self.fields[one.field][0] for one in step.live}


def drifted(*tables):
    changelog = Changelog.of(first_columns(tables[0], RULES, at(0)))
    return changelog, changelog.take([(at(number), one) for number, one in enumerate(tables)])


def test_a_batch_may_add_drop_rename_and_widen_in_its_middle():
    """Case 49."""
    changelog, drift = drifted(
        table("a integer 2", "b text 3"),
        table("a integer 2", "b text 3", "c date 4"),
        table("a bigint 2", "b text 3", "c date 4"),
        table("a bigint 2", "renamed text 3", "c date 4"),
        table("a bigint 2", "renamed text 3"),
    )
    assert drift.changes == (
        RenameField("b", "renamed"),
        WidenField("a", parse_iceberg("long")),
        AddField("c", parse_iceberg("date")),
    )
    fields = [[(one.source.name, one.field) for one in step.live] for step in (drift.start, *drift.steps)]
    first = [("id", "id"), ("a", "a"), ("b", "renamed")]
    assert fields == [
        first,
        first,
        [*first, ("c", "c")],
        [*first, ("c", "c")],
        [("id", "id"), ("a", "a"), ("renamed", "renamed"), ("c", "c")],
        [("id", "id"), ("a", "a"), ("renamed", "renamed")],
    ]
    assert [step.columns[1].source.type for step in drift.steps] == ["integer", "integer", "bigint", "bigint", "bigint"]
    assert set(changelog.fields) == {*SYSTEM, "id", "a", "renamed", "c"}


def test_a_column_that_is_dropped_and_made_again_gets_a_field_of_its_own():
    """Case 50: what the first one held stays readable under a name that tells until when."""
    for pause in (True, False):
        between = [table("b text 3")] if pause else []
        changelog, drift = drifted(table("a integer 2", "b text 3"), *between, table("b text 3", "a integer 4"))
        retired = f"a_until_{0x16B3748 + 1 + pause:x}"
        assert drift.changes == (RenameField("a", retired), AddField("a", parse_iceberg("int")))
        assert [one.field for one in drift.start.columns] == ["id", retired, "b"]
        assert [one.field for one in drift.columns.columns] == ["id", retired, "b", "a"]
        assert [one.field for one in drift.columns.live] == ["id", "b", "a"]
        assert changelog.fields["a"][0] == max(number for number, _ in changelog.fields.values())


def test_a_column_made_again_many_times_at_one_position_keeps_every_field_apart():
    changelog = Changelog.of(first_columns(table("a integer 2"), RULES, at(0)))
    changelog.take([(sequence_number(0x16B3749, turn), table(f"a integer {3 + turn}")) for turn in range(3)])
    assert [one.field for one in changelog.columns.columns] == [
        "id",
        "a_until_16b3749",
        "a_until_16b3749_2",
        "a_until_16b3749_3",
        "a",
    ]


def test_a_table_dropped_and_made_anew_has_columns_by_their_names_whatever_their_places():
    """Its columns are numbered anew: the second one of it is not the second one of the table before."""
    old, new = 7 << 16, 9 << 16
    changelog, drift = drifted(
        table(f"a integer {old + 2}", f"b text {old + 3}", f"c date {old + 4}"),
        table(f"b text {new + 2}", f"c text {new + 3}", f"a bigint {new + 4}"),
    )
    retired = "c_until_16b3749"
    assert drift.changes == (
        RenameField("c", retired),
        WidenField("a", parse_iceberg("long")),
        AddField("c", parse_iceberg("string")),
    )
    assert [(one.field, one.dropped) for one in changelog.columns.columns] == [
        *(("id", False), ("a", False), ("b", False)),
        *((retired, True), ("c", False)),
    ]
    assert [one.source.id - new for one in changelog.columns.live[1:]] == [4, 2, 3]


def test_made_again_with_another_type_is_no_conflict():
    changelog, _ = drifted(table("a integer 2"), table("a text 3"))
    assert str(changelog.types["a"]) == "string"
    assert str(changelog.types["a_until_16b3749"]) == "int"


def test_without_identities_a_rename_is_a_column_dropped_and_one_made():
    changelog, drift = drifted(table("a integer -"), table("b integer -"))
    assert drift.changes == (AddField("b", parse_iceberg("int")),)
    assert [(one.field, one.dropped) for one in changelog.columns.columns] == [("id", False), ("a", True), ("b", False)]


def test_identities_that_come_later_or_go_away_change_nothing():
    changelog, drift = drifted(table("a integer -"), table("a integer 7"), table("a integer -"), table("b integer 7"))
    assert drift.changes == (RenameField("a", "b"),)
    assert [one.source.id for one in changelog.columns.columns] == [1, 7]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a integer 2", "b integer 3"], ["b integer 2", "a integer 3"]),
        (["a text 2", "b text 3", "c text 4"], ["b text 2", "c text 3", "a text 4"]),
        (["a text 2", "b text 3", "c text 4"], ["b text 2", "c text 3", "d text 4"]),
        (["a text 2", "a_moving text 3"], ["a_moving text 2", "a text 3"]),
    ],
)
def test_names_may_change_hands_in_chains_and_circles(before, after):
    changelog = Changelog.of(first_columns(table(*before), RULES, at(0)))
    numbers = changelog.places(changelog.columns)
    changelog.take([(at(1), table(*after))])
    renamed = {old.split(" ")[0]: new.split(" ")[0] for old, new in zip(before, after, strict=True)}
    assert changelog.places(changelog.columns) == {renamed.get(name, name): place for name, place in numbers.items()}


def test_a_column_may_take_the_name_of_one_that_was_dropped():
    changelog, drift = drifted(table("a text 2", "b text 3"), table("a text 2"), table("b text 2"))
    assert drift.changes == (RenameField("b", "b_until_16b374a"), RenameField("a", "b"))
    assert set(changelog.fields) == {*SYSTEM, "id", "b_until_16b374a", "b"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bigint", "text"),
        ("text", "integer"),
        ("numeric(10,2)", "numeric(10,3)"),
        ("timestamp without time zone", "timestamp with time zone"),
        ("integer", "integer[]"),
        ("integer", "real"),
        ("numeric(10,2)", "numeric"),
    ],
)
def test_an_incompatible_change_is_refused_with_column_types_and_the_way_out(old, new):
    """Case 51."""
    changelog = Changelog.of(first_columns(table("ok text 3"), RULES, at(0)))
    words = SourceColumn("amount", old, 2), SourceColumn("amount", new, 2)
    tables = [replace(table(), columns=(*table().columns, one)) for one in words]
    changelog.take([(at(1), tables[0])])
    with pytest.raises(SchemaConflict) as refused:
        changelog.take([(at(2), tables[1])])
    said = str(refused.value)
    assert said.startswith("source table public.t: column amount was ")
    assert old in said
    assert new in said
    assert "change the column back" in said
    assert "install --tables public.t --again" in said


@pytest.mark.parametrize(
    ("held", "narrow"),
    [("bigint", "integer"), ("double precision", "real"), ("numeric(12,2)", "numeric(8,2)"), ("text", "public.mood")],
)
def test_a_narrower_type_goes_into_the_field_as_it_is(held, narrow):
    words = SourceColumn("a", held, 2), SourceColumn("a", narrow, 2)
    one, other = (replace(table(), columns=(*table().columns, word)) for word in words)
    changelog, drift = drifted(one, other)
    assert drift.changes == ()
    assert changelog.columns.columns[1].source.type == narrow


@pytest.mark.parametrize("name", SystemColumns().names)
def test_a_source_column_may_not_be_named_like_one_of_ours(name):
    """Case 54: at the first copy, when one is added, and when one is renamed."""
    said = rf"public\.t: column {name} .*rename the column at the source.*system_columns"
    with pytest.raises(BadConfig, match=said):
        first_columns(table(f"{name} text 2"), RULES, at(0))
    for before in ([], ["a text 2"]):
        changelog = Changelog.of(first_columns(table(*before), RULES, at(0)))
        with pytest.raises(BadConfig, match=said):
            changelog.take([(at(1), table(f"{name} text 2"))])


def test_names_of_ours_can_be_changed():
    """Case 54: the way out."""
    rules = ChangelogRules(system=SystemColumns(operation="_op"))
    first = first_columns(table("cdc_operation text 2", "CDC_OPERATOR text 3"), rules, at(0))
    assert [one.field for one in first.columns] == ["id", "cdc_operation", "CDC_OPERATOR"]


@pytest.mark.parametrize(
    ("name", "said"), [("CDC_Lsn", "that the changelog has for itself"), ("iD", "differs from i[dD] only in upper and")]
)
def test_a_source_column_whose_name_differs_only_in_case_from_another_one_is_refused(name, said):
    """Case 54: DuckDB reads no table with both."""
    with pytest.raises(BadConfig, match=rf"public\.t: column .*{said}"):
        first_columns(table(f"{name} text 2"), RULES, at(0))
    for before in ([], ["a text 2"]):
        changelog = Changelog.of(first_columns(table(*before), RULES, at(0)))
        with pytest.raises(BadConfig, match=said):
            changelog.take([(at(1), table(f"{name} text 2"))])


def test_a_column_may_be_named_anew_in_another_case_and_like_one_that_was_dropped():
    """Case 54."""
    changelog, drift = drifted(
        table("a text 2", "b text 3"), table("A text 2", "b text 3"), table("a text 2", "B text 4")
    )
    assert [one.field for one in drift.columns.columns] == ["id", "a", "b_until_16b374a", "B"]
    assert set(changelog.fields) == {*SYSTEM, "id", "a", "b_until_16b374a", "B"}


@pytest.mark.parametrize("name", ["", "a\x00b", "ü" * 32])
def test_a_name_that_postgresql_cannot_have_is_refused(name):
    strange = replace(table(), columns=(*table().columns, SourceColumn(name, "text")))
    with pytest.raises(BadConfig, match="a name of 1 to 63 bytes"):
        first_columns(strange, RULES, at(0))


def test_replay_of_an_old_schema_event_changes_nothing():
    """Case 55: also when what it says was dropped, renamed and made again since."""
    tables = [
        table("a integer 2", "b text 3"),
        table("a bigint 2"),
        table("c bigint 2"),
        table("c bigint 2", "b date 4"),
    ]
    changelog, _ = drifted(*tables)
    before = (changelog.columns, dict(changelog.fields))
    drift = changelog.take([(at(number), one) for number, one in enumerate(tables)])
    assert drift.changes == ()
    assert set(drift.steps) == {before[0]}
    assert (changelog.columns, changelog.fields) == before


def test_the_state_survives_its_own_text():
    columns = (
        SourceColumn("id", "bigint", 1),
        SourceColumn("ä \"'\n", "public.mood", kind="enum"),
        SourceColumn("price", "public.price", 9, "domain", "numeric(12,2)"),
    )
    first = first_columns(SourceTable("public", "t", columns, ("id", "ä \"'\n")), RULES, at(0))
    types = types_of(first)
    later = plan_drift(
        first, types, [(at(1), SourceTable("public", "t", (SourceColumn("id", "text", 2),), ()))]
    ).columns
    for state in (first, later):
        assert ChangelogColumns.load(state.dump()) == state
    assert len(first.dump()) < 300


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"columns": [{}], "key": [], "at": ""}', "null", '{"columns": 3}'])
def test_a_state_that_somebody_else_wrote_is_said_to_be_foreign(text):
    with pytest.raises(ChangelogForeign, match=r"icefleet\.cdc\.columns.*copied anew"):
        ChangelogColumns.load(text)


@st.composite
def histories(draw):
    """Tables as DDL makes them of each other, and where their schema events are cut into batches."""
    wider = {"integer": "bigint", "real": "double precision", "numeric(5,2)": "numeric(9,2)", "text": "public.mood"}
    kinds = st.sampled_from([*wider, "date"])
    names = st.sampled_from("abcde")
    known = draw(st.booleans())
    columns, made, tables = [SourceColumn("id", "bigint", 1 if known else None)], 1, []
    for _ in range(draw(st.integers(1, 12))):
        for _ in range(draw(st.integers(1, 3))):
            deed, name, place = (
                draw(st.sampled_from(["add", "drop", "rename", "widen"])),
                draw(names),
                draw(st.integers(0)),
            )
            free = name not in {one.name for one in columns}
            place = 1 + place % max(len(columns) - 1, 1)
            if deed == "add" and free:
                made += 1
                columns.append(SourceColumn(name, draw(kinds), made if known else None))
            elif place < len(columns):
                one = columns[place]
                if deed == "drop":
                    columns.pop(place)
                elif deed == "rename" and free and known:
                    columns[place] = replace(one, name=name)
                elif deed == "widen":
                    columns[place] = replace(one, type=wider.get(one.type, one.type))
        tables.append(SourceTable("public", "t", tuple(columns), ("id",)))
    cuts = sorted(draw(st.sets(st.integers(1, len(tables)), max_size=4)))
    return known, tables, [0, *cuts, len(tables)]


def follow(tables, cuts, *, again=0):
    """The changelog after these batches, and where rows go after every event; the last `again` come twice."""
    events = [(at(number), one) for number, one in enumerate(tables)]
    changelog, planned = Changelog.of(first_columns(tables[0], RULES, at(0))), []
    for low, high in pairwise(cuts):
        drift = changelog.take(events[max(low - again, 0) : high])
        planned += [changelog.places(step) for step in drift.steps[min(again, low) :]]
    return changelog, planned


def possible(tables):
    """Whether no change is an incompatible one: then there is nothing more to see."""
    try:
        follow(tables, [0, len(tables)])
    except SchemaConflict:
        return False
    return True


@given(histories())
def test_the_result_does_not_depend_on_batches(history):
    """Cases 49 and 50, whatever happens to the columns, and wherever batches end."""
    known, tables, cuts = history
    if not possible(tables):
        return
    whole, places = follow(tables, [0, len(tables)])
    parts, same_places = follow(tables, cuts)
    assert (parts.columns, places) == (whole.columns, same_places)
    assert parts.fields == whole.fields
    # What comes again in the next batch changes nothing (case 55).
    again, same_places = follow(tables, cuts, again=3)
    assert (again.columns, again.fields, same_places) == (whole.columns, whole.fields, places)
    assert whole.take([(at(number), one) for number, one in enumerate(tables)]).changes == ()
    # A column has one field all its life, and no two columns share one.
    if known:
        owners = {}
        for one, place in zip(tables, places, strict=True):
            for column in one.columns:
                assert owners.setdefault(column.id, place[column.name]) == place[column.name]
        assert len(set(owners.values())) == len(owners)


@given(histories())
def test_live_fields_are_named_as_the_sources_columns(history):
    _, tables, cuts = history
    if possible(tables):
        changelog, _ = follow(tables, cuts)
        assert {one.field for one in changelog.columns.live} == {one.name for one in tables[-1].columns}
        assert all(one.field == one.source.name for one in changelog.columns.live)
        fields = [one.field for one in changelog.columns.columns]
        assert len(set(fields)) == len(fields)
        assert changelog.fields.keys() == {*SYSTEM, *fields}
