"""Names and fields: readers find columns of files without field ids, such as all of ours, by the table's name mapping.

Some catalogs keep the mapping in order by themselves, and some just store it: here it is looked at in either case.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError
from pyiceberg.schema import Schema
from pyiceberg.table.name_mapping import MappedField, NameMapping, parse_mapping_from_json
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from activities.core.faults import SchemaConflict
from activities.lake.schema import NAME_MAPPING


def check_mapping(where: str, properties: Mapping[str, str], schema: Schema) -> None:
    """Refuse to commit where a file's columns would not be found, or not be found right.

    Raises:
        SchemaConflict: The mapping lacks a column, or takes one for another.
    """
    if completed_mapping(where, properties, schema) is not None:
        raise SchemaConflict(
            f"{where}: its property {NAME_MAPPING} lacks columns of its schema, whose values could not be read; "
            "somebody changed it after the plan was made. Ask for the export again: its plan mends it"
        )


def completed_mapping(where: str, properties: Mapping[str, str], schema: Schema) -> str | None:
    """The table's mapping with every field of `schema` in it, as the property's text; None when it has them all.

    Names that were there stay, so that old files are read as before.

    Raises:
        SchemaConflict: It cannot be read, or it takes a name for another field than the schema does.
    """
    text = properties.get(NAME_MAPPING)
    try:
        before = parse_mapping_from_json(text) if text else NameMapping([])
    except ValidationError as broken:
        raise SchemaConflict(
            f"{where}: its property {NAME_MAPPING} cannot be read ({broken}); mend it, or remove it: it is made then"
        ) from broken
    after = _Completion(where, schema).fields("", _children(schema.as_struct()), before.root)
    return None if text and after == before.root else NameMapping(after).model_dump_json()


def check_new_names(where: str, known: Iterable[Schema], before: Schema, after: Schema) -> None:
    """Refuse a new field under the name of one that somebody renamed or dropped in the table.

    Files hold their columns by name: what the old field held would appear under the new one.

    Args:
        where: The table, for messages.
        known: Every schema that the table has had.
        before: The table's schema.
        after: What it is to become.

    Raises:
        SchemaConflict: There is such a field.
    """
    fresh = {name for name, number in _full_names(after) if number not in before.field_ids}
    for schema in known:
        for name, number in _full_names(schema):
            if name in fresh:
                now = before.find_column_name(number)
                raise SchemaConflict(
                    f"{where}: column {name} was {f'renamed to {now}' if now else 'dropped'} in the Iceberg table, and "
                    "the source still has it: under a new column of that name, values of old files would come back. "
                    "Undo that with an Iceberg client, rename it at the source, or export to a new table"
                )


def _full_names(schema: Schema) -> Iterator[tuple[str, int]]:
    for number in sorted(schema.field_ids):
        name = schema.find_column_name(number)
        if name is not None:
            yield name, number


_Field = tuple[int, str, IcebergType]
"""Id, name and type."""


def _children(kind: IcebergType) -> Iterator[_Field]:
    match kind:
        case StructType():
            yield from ((field.field_id, field.name, field.field_type) for field in kind.fields)
        case ListType():
            yield kind.element_id, "element", kind.element_type
        case MapType():
            yield kind.key_id, "key", kind.key_type
            yield kind.value_id, "value", kind.value_type


class _Completion:
    def __init__(self, where: str, schema: Schema) -> None:
        self._where = where
        self._schema = schema

    def fields(self, path: str, wanted: Iterator[_Field], mapped: Sequence[MappedField]) -> list[MappedField]:
        """One level: `mapped` with what it lacks of `wanted`."""
        by_id = {number: (name, kind) for number, name, kind in wanted}
        self._check(path, {name: number for number, (name, _) in by_id.items()}, mapped)
        found = []
        for field in mapped:
            name, kind = by_id.pop(field.field_id, ("", None)) if field.field_id is not None else ("", None)
            if kind is None:  # of a column that was dropped from the table: its name stays taken
                found.append(field)
                continue
            names = field.names if name in field.names else [*field.names, name]
            inner = self.fields(f"{path}{name}.", _children(kind), field.fields)
            found.append(field.model_copy(update={"names": names, "fields": inner}))
        for number, (name, kind) in by_id.items():
            inner = self.fields(f"{path}{name}.", _children(kind), [])
            found.append(MappedField.model_validate({"field-id": number, "names": [name], "fields": inner}))
        return found

    def _check(self, path: str, ids: dict[str, int], mapped: Sequence[MappedField]) -> None:
        """No name may stand for two fields, nor for another one than the schema's of that name."""
        owners = dict[str, int | None](ids)
        for field in mapped:
            for name in field.names:
                owner = owners.setdefault(name, field.field_id)
                if owner != field.field_id:
                    raise SchemaConflict(
                        f"{self._where}: its property {NAME_MAPPING} takes {path}{name} for field {field.field_id} "
                        f"({self._called(field.field_id)}), and {path}{name} is field {owner}: files would be read "
                        "wrongly. Mend the property with an Iceberg client, or export to a new table"
                    )

    def _called(self, number: int | None) -> str:
        name = None if number is None else self._schema.find_column_name(number)
        return f"column {name}" if name else "no column any more"
