from dataclasses import replace

import pytest

from activities.core.columns import SourceColumn, export_columns
from activities.core.evolution import TableShape
from activities.core.faults import BadConfig, PrivacyUndecided, SchemaConflict, UnsupportedType
from activities.core.tables import PartitionRule, TableConfig
from activities.core.types import parse_iceberg

CONFIG = TableConfig("block", "default", "local.default", PartitionRule("daily", "at"), ())
KEYS = (SourceColumn("at", "DateTime"), SourceColumn("meta_network_name", "LowCardinality(String)"))


def export(*columns, config=CONFIG, existing=None):
    found = export_columns(
        config,
        [*KEYS, *(SourceColumn(*column) for column in columns)],
        TableShape({name: parse_iceberg(text) for name, text in (existing or {}).items()}),
    )
    return {column.name: column for column in found}


def test_columns_keep_the_order_of_the_source():
    assert list(export(("z", "String"), ("a", "String"))) == ["at", "meta_network_name", "z", "a"]


def test_all_undecided_columns_are_named_at_once():
    with pytest.raises(
        PrivacyUndecided, match=r"^block: meta_client_ip, meta_client_geo_city, where, addr, any may say"
    ):
        export(
            ("meta_client_ip", "Nullable(IPv6)"),
            ("meta_client_geo_city", "String"),
            ("where", "Array(Tuple(latitude Float64, x Int8))"),
            ("addr", "Array(IPv4)"),
            ("any", "Array(Variant(String, IPv6))"),
            ("description", "String"),
        )


def test_patterns_of_the_config_decide_and_an_address_is_one_whatever_its_name():
    config = replace(CONFIG, sensitive_patterns=("email",))
    with pytest.raises(PrivacyUndecided, match=r"^block: user_email, addr may say"):
        export(("user_email", "String"), ("peer_id", "String"), ("addr", "Nullable(IPv6)"), config=config)


def test_an_allowed_column_is_published_as_it_is():
    columns = export(("peer_id", "String"), config=replace(CONFIG, allowed_columns=("peer_id",)))
    assert columns["peer_id"].expression == "`peer_id`"


# Column, its type, the profile, and the one value that every row then has.
REDACTIONS = [
    ("meta_client_ip", "Nullable(IPv6)", "as_published", bytes(16)),
    ("meta_client_ip", "IPv6", "portable", "::"),
    ("meta_client_ip", "IPv4", "portable", "0.0.0.0"),
    ("meta_client_ip", "LowCardinality(Nullable(String))", "portable", "::"),
    ("meta_client_ip", "UInt32", "portable", 0),
    ("meta_client_geo_longitude", "Nullable(Float64)", "as_published", 0.0),
    ("meta_client_geo_latitude", "String", "portable", "0"),
    ("meta_client_geo_city", "LowCardinality(String)", "as_published", ""),
    ("meta_client_geo_country_code", "Nullable(String)", "portable", ""),
    ("meta_client_peer_id", "LowCardinality(String)", "portable", "REDACTED"),
    ("client_id", "FixedString(4)", "as_published", bytes(4)),
    ("meta_client_ip", "FixedString(16)", "as_published", bytes(16)),
    ("meta_client_ip", "FixedString(39)", "portable", "::"),
    ("meta_client_ip", "LowCardinality(IPv6)", "as_published", bytes(16)),
]


@pytest.mark.parametrize(("name", "kind", "profile", "expected"), REDACTIONS)
def test_redaction_replaces_the_value_and_not_the_type(engine, name, kind, profile, expected):
    plain = replace(CONFIG, profile=profile, allowed_columns=(name,))
    redacted = replace(CONFIG, profile=profile, redacted_columns=(name,))
    before, after = export((name, kind), config=plain)[name], export((name, kind), config=redacted)[name]
    assert after.iceberg == before.iceberg
    value = "'1.2.3.4'" if "IP" in kind else "'1'"
    source = f"(SELECT CAST({value} AS {kind}) AS `{name}`)"
    shown = engine.table(f"SELECT {before.expression} AS `a`, {after.expression} AS `b` FROM {source}")
    assert shown.schema.field("a").type == shown.schema.field("b").type
    assert shown.schema.field("a").nullable == shown.schema.field("b").nullable
    assert shown.to_pylist()[0]["b"] == expected


def test_a_redaction_without_a_blank_value_is_refused():
    config = replace(CONFIG, redacted_columns=("ips",))
    with pytest.raises(BadConfig, match=r"^block: column ips: there is no blank value of type Map\(String, IPv6\)"):
        export(("ips", "Map(String, IPv6)"), config=config)


@pytest.mark.parametrize("profile", ["portable", "as_published"])
@pytest.mark.parametrize("kind", ["Array(String)", "Array(Nullable(IPv6))", "Array(Array(LowCardinality(String)))"])
def test_a_redacted_array_is_empty_and_keeps_its_type(engine, kind, profile):
    allowed = replace(CONFIG, profile=profile, allowed_columns=("ips",))
    redacted = replace(CONFIG, profile=profile, redacted_columns=("ips",))
    before, after = export(("ips", kind), config=allowed)["ips"], export(("ips", kind), config=redacted)["ips"]
    assert after.iceberg == before.iceberg
    source = f"(SELECT CAST('[]' AS {kind}) AS `ips`)"
    shown = engine.table(f"SELECT {before.expression} AS `a`, {after.expression} AS `b` FROM {source}")
    assert shown.schema.field("a").type == shown.schema.field("b").type
    assert "`ips`" not in after.expression
    assert shown.to_pylist()[0]["b"] == []


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (replace(CONFIG, partition=PartitionRule("daily", "slot_at")), "no partition column slot_at"),
        (replace(CONFIG, network_column="net"), "no network column net"),
        (replace(CONFIG, redacted_columns=("x_ip",)), "no redacted column x_ip"),
        (replace(CONFIG, allowed_columns=("x_ip",)), "no allowed column x_ip"),
        (replace(CONFIG, types={"x": "long"}), "no column with a type of its own x"),
        (replace(CONFIG, redacted_columns=("at",), allowed_columns=("at",)), "at is both redacted and allowed"),
    ],
)
def test_config_that_names_what_is_not_there_is_refused(config, complaint):
    with pytest.raises(BadConfig, match=rf"^block: .*{complaint}"):
        export(config=config)


def test_a_type_without_a_policy_names_table_and_column():
    with pytest.raises(
        UnsupportedType, match=r"^block: column state: AggregateFunction\(sum, UInt64\) has no lossless way"
    ):
        export(("state", "AggregateFunction(sum, UInt64)"))


@pytest.mark.parametrize(
    ("kind", "there", "then"),
    [
        ("Int64", "int", "long"),
        ("Int32", "long", "long"),
        ("Float64", "float", "double"),
        ("Float32", "double", "double"),
        ("UInt64", "long", "long"),
        ("FixedString(66)", "fixed[66]", "fixed[66]"),
        ("Decimal(20, 2)", "decimal(9, 2)", "decimal(20, 2)"),
        ("Array(UInt64)", "list<long>", "list<long>"),
    ],
)
def test_the_tables_type_wins_or_is_widened(kind, there, then):
    assert str(export(("x", kind), existing={"x": there})["x"].iceberg) == then


@pytest.mark.parametrize(("kind", "there"), [("String", "long"), ("DateTime", "string"), ("Array(String)", "string")])
def test_a_change_that_the_table_cannot_follow_says_what_changed(kind, there):
    with pytest.raises(SchemaConflict, match=r"^block: column x is .* in the Iceberg table, and .* at the source"):
        export(("x", kind), existing={"x": there})


def test_config_that_contradicts_the_table_is_refused():
    with pytest.raises(SchemaConflict, match=r"^block: column x is long in the Iceberg table, and config says string"):
        export(("x", "UInt64"), config=replace(CONFIG, types={"x": "string"}), existing={"x": "long"})


def test_a_new_column_is_added_and_a_dropped_one_stays_out():
    columns = export(("new", "String"), existing={"at": "timestamptz", "old": "string"})
    assert list(columns) == ["at", "meta_network_name", "new"]


def test_an_allowed_column_does_not_allow_what_comes_into_it_later():
    before = {"peers": "list<struct<latitude: double>>"}
    kind = "Array(Tuple(latitude Float64, name String, peer_ip String, origin Tuple(addr IPv4)))"
    allowed = replace(CONFIG, allowed_columns=("peers",))
    with pytest.raises(
        PrivacyUndecided, match=r"^block: peers\.peer_ip, peers\.origin\.addr came after its column was al"
    ):
        export(("peers", kind), config=allowed, existing=before)
    # Whoever allows a column as it is, or a field by its name, has decided.
    assert "peers" in export(("peers", kind), config=allowed)
    decided = replace(CONFIG, allowed_columns=("peers", "peers.peer_ip", "peers.origin.addr"))
    assert "peers" in export(("peers", kind), config=decided, existing=before)
    with pytest.raises(BadConfig, match=r"no allowed column peers\.nothing"):
        export(("peers", kind), config=replace(CONFIG, allowed_columns=("peers", "peers.nothing")))


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Tuple(name String, clientip String)", "peer.clientip"),
        ("Tuple(name String, id String)", "peer.id"),
        ("Array(Tuple(name String, at Tuple(geocity String)))", "peer.at.geocity"),
        ("Tuple(name String, addrs Array(IPv4))", "peer.addrs"),
        ("Tuple(name String, seen Map(String, Nullable(IPv6)))", "peer.seen"),
        ("Tuple(name String, seen Variant(IPv6, String))", "peer.seen"),
    ],
)
def test_a_field_that_comes_into_an_allowed_column_is_judged_as_a_column_is(kind, path):
    before = {"peer": "list<struct<name: string>>" if kind.startswith("Array") else "struct<name: string>"}
    allowed = replace(CONFIG, allowed_columns=("peer",))
    with pytest.raises(PrivacyUndecided, match=rf"^block: {path} came after its column was allowed"):
        export(("peer", kind), config=allowed, existing=before)
    assert "peer" in export(("peer", kind), config=replace(allowed, allowed_columns=("peer", path)), existing=before)


def test_a_new_field_is_not_judged_by_the_name_of_an_allowed_column_that_holds_it():
    allowed = replace(CONFIG, allowed_columns=("peer_ids",))
    before = {"peer_ids": "struct<name: string>"}
    assert "peer_ids" in export(("peer_ids", "Tuple(name String, count UInt8)"), config=allowed, existing=before)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([], "is required in the Iceberg table, and the source has no such column"),
        (
            [("x", "LowCardinality(Nullable(String))")],
            r"LowCardinality\(Nullable\(String\)\) at the source, which may be",
        ),
        ([("x", "Variant(String)")], r"Variant\(String\) at the source, which may be NULL"),
        ([("x", "Map(String, Nullable(Int8))")], "which may be NULL"),
    ],
)
def test_a_required_column_is_served_only_by_one_that_cannot_be_null(columns, said):
    shape = TableShape({"x": parse_iceberg("string")}, frozenset({"x"}))
    with pytest.raises(SchemaConflict, match=f"^block: column x .*{said}"):
        export_columns(CONFIG, [*KEYS, *(SourceColumn(*column) for column in columns)], shape)


def test_a_struct_is_widened_part_by_part_and_cast_where_the_table_is_wider():
    [pair] = [
        one
        for name, one in export(("p", "Tuple(a Int32, b Int64)"), existing={"p": "struct<a: long, b: int>"}).items()
        if name == "p"
    ]
    assert (str(pair.iceberg), pair.expression) == (
        "struct<a: long, b: long>",
        "CAST(`p` AS Tuple(`a` Int64, `b` Int64))",
    )
