"""The tables of a run: keys of every kind, large values, many types, names that must be quoted."""

from dataclasses import dataclass

LARGE = 2_500
"""Characters from which a value is stored outside of its row, so that an update that leaves it alone does not log it.

Values are either longer than this or far shorter, and what is not named `big_…` stays short in sum: then PostgreSQL
moves exactly these.
"""


@dataclass(frozen=True)
class Table:
    """One table of the source."""

    schema: str
    name: str
    columns: tuple[str, ...]
    """As in CREATE TABLE."""
    key: tuple[str, ...] = ()
    full: bool = False
    """Whether whole old rows are logged: with a key only when it was asked for."""
    later: bool = False
    """Installed while everything goes on."""
    evolves: bool = False
    """Whether its columns change."""
    poisoned: bool = False
    """Whether rows come up that no Iceberg table can hold, once its first copy is there."""
    rows: int = 60
    """How many it has at first."""
    most: int = 120
    """Above this no writer adds any more."""

    @property
    def identifier(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.name}"

    @property
    def changelog(self) -> str:
        """What its changelog is called by default, in the namespace `cdc`."""
        return f"cdc.{self.schema}_{self.name}_changelog"


TABLES = (
    Table(
        "public",
        "accounts",
        (
            "region text", "number integer", "owner text", "balance numeric(12,2)",
            "opened timestamp with time zone", "active boolean", "tags text[]", "PRIMARY KEY (region, number)",
        ),
        key=("region", "number"),
    ),
    Table(
        "public",
        "documents",
        (
            "id bigint PRIMARY KEY", "title text", "big_body text", "big_data bytea", "revision integer",
            "big_facts jsonb",
        ),
        key=("id",),
        rows=30,
        most=80,
    ),
    Table(
        "public",
        "archive",
        ("id integer PRIMARY KEY", "title text", "big_body text", "kept boolean"),
        key=("id",),
        full=True,
        rows=20,
        most=60,
    ),
    Table(
        "public",
        "readings",
        (
            "sensor integer", "at timestamp without time zone", "value double precision", "raw real",
            "labels integer[]", "note character varying(20)",
        ),
        full=True,
    ),
    Table(
        "public",
        "kinds",
        (
            "id uuid PRIMARY KEY", "tiny smallint", "whole integer", "large bigint", "single real",
            "twice double precision", "exact numeric(18,6)", "any_number numeric", "yes boolean", "short character(5)",
            "medium character varying(12)", "words text", "day date", "moment timestamp without time zone",
            "instant timestamp with time zone", "clock time without time zone", "clock_there time with time zone",
            "span interval", "mood public.mood", "share public.percent", "document json", "facts jsonb",
            "data bytea", "address inet", "network cidr", "stretch int4range", "bits bit varying(8)",
            "numbers bigint[]", "names text[]", "amounts numeric(8,3)[]", "days date[]", "flags boolean[]",
            "moods public.mood[]", "other uuid",
        ),
        key=("id",),
    ),
    Table(
        "sales",
        "orders",
        ('"Order No" integer', '"select" text', '"größe" numeric(6,1)', "\"it's\" text", '"a""b" date',
         'PRIMARY KEY ("Order No")'),
        key=("Order No",),
        later=True,
    ),
    Table(
        "public",
        "tasks",
        ("id integer PRIMARY KEY", "what text", "due timestamp with time zone", "done boolean"),
        key=("id",),
        poisoned=True,
    ),
    Table(
        "public",
        "shifting",
        (
            "id integer PRIMARY KEY", "first text", "second integer", "third real", "fourth numeric(8,2)",
            "fifth varchar(8)",
        ),
        key=("id",),
        evolves=True,
    ),
    Table(
        "public",
        "moving",
        ("id bigint PRIMARY KEY", "first text", "second integer", "third real", "fourth numeric(8,2)"),
        key=("id",),
        later=True,
        evolves=True,
        rows=100,
    ),
    Table(
        "public",
        "growing",
        ("a text", "b text", "first integer", "second text", "PRIMARY KEY (a, b)"),
        key=("a", "b"),
        later=True,
        evolves=True,
        rows=100,
    ),
)  # fmt: skip
PREPARE = (
    "CREATE TYPE public.mood AS ENUM ('fine', 'so so', 'it''s \"bad\"')",
    "CREATE DOMAIN public.percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100)",
    "CREATE SCHEMA sales",
)


def by_identifier(identifier: str) -> Table:
    """The table that is called so."""
    return next(table for table in TABLES if table.identifier == identifier)


def quoted(name: str) -> str:
    """An identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
