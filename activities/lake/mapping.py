"""The name mapping of a table: by it readers find columns in files without field ids, such as all of ours."""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.name_mapping import MappedField, NameMapping, parse_mapping_from_json
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from activities.core.faults import SchemaConflict
from activities.lake.schema import NAME_MAPPING


def check_mapping(table: Table) -> None:
    """Refuse to commit where a file's columns would not be found, or not be found right.

    Raises:
        SchemaConflict: The mapping lacks a column, or takes one for another.
    """
    if completed_mapping(table, table.schema()) is not None:
        raise SchemaConflict(
            f"table {'.'.join(table.name())}: its property {NAME_MAPPING} lacks columns of its schema, whose values "
            "could not be read; somebody changed it after the plan was made. Ask for the export again: its plan mends "
            "it"
        )


def completed_mapping(table: Table, schema: Schema) -> str | None:
    """The table's mapping with every field of `schema` in it, as the property's text; None when it has them all.

    Names that were there stay, so that old files are read as before.

    Raises:
        SchemaConflict: It cannot be read, or it takes a name for another field than the schema does.
    """
    text = table.properties.get(NAME_MAPPING)
    where = f"table {'.'.join(table.name())}"
    try:
        before = parse_mapping_from_json(text) if text else NameMapping([])
    except ValidationError as broken:
        raise SchemaConflict(
            f"{where}: its property {NAME_MAPPING} cannot be read ({broken}); mend it, or remove it: it is made then"
        ) from broken
    after = _Completion(where, schema).fields("", _children(schema.as_struct()), before.root)
    return None if text and after == before.root else NameMapping(after).model_dump_json()


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
            if kind is None:  # a column that was dropped from the table: its old name stays taken
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
        owner: dict[str, int | None] = {}
        for field in mapped:
            for name in field.names:
                taken = owner.setdefault(name, field.field_id)
                if taken != field.field_id or ids.get(name, taken) != taken:
                    wanted = ids.get(name, field.field_id)
                    other = taken if taken != wanted else field.field_id
                    raise SchemaConflict(
                        f"{self._where}: its property {NAME_MAPPING} takes {path}{name} for field {other} "
                        f"({self._called(other)}), and {path}{name} is field {wanted}: files would be read wrongly. "
                        "Was a column renamed or dropped with an Iceberg client? Undo that, mend the property, or "
                        "export to a new table"
                    )

    def _called(self, number: int | None) -> str:
        name = None if number is None else self._schema.find_column_name(number)
        return f"column {name}" if name else "no column any more"
