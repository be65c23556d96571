"""How a mirror's columns follow those of its changelog: by the changelog's field ids, never by chance of a name."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.types import NestedField

from activities.core.faults import MirrorForeign, SchemaConflict
from activities.core.iceberg_types import IcebergType, widens
from activities.core.mirrors import MirrorConfig
from activities.lake.mirror import WAY_OUT, Mirror, check_keys, merged_columns
from activities.lake.schema import evolved, to_pure


@dataclass(frozen=True)
class SchemaPlan:
    """What a merge makes of the mirror's schema."""

    schema: Schema | None
    """The mirror's in the merge's own commit; None: as it is."""
    columns: dict[str, str]
    """`Watermark.columns` from then on."""
    changes: tuple[str, ...]
    """What changes, in words."""


def plan_schema(config: MirrorConfig, mirror: Mirror, changelog: Schema, *, anew: bool = False) -> SchemaPlan:
    """What the mirror's schema must become to hold the changelog's rows.

    A column that the changelog does not have any more stays, and is null in new rows; one that took the name of such a
    column has it renamed. With `anew` the changelog is another one than before: its columns are known by name.

    Raises:
        SchemaConflict: the changelog's schema changed and the mirror is `strict`; or a type cannot be followed.
        MirrorForeign: somebody took columns out of the mirror.
        BadConfig: the changelog lacks columns that config names; or the key is not the mirror's.
    """
    wanted = merged_columns(config, changelog)
    if not anew:
        check_keys(config, mirror, changelog)
    return _Plan(config, mirror, wanted, anew=anew).made()


class _Plan:
    def __init__(self, config: MirrorConfig, mirror: Mirror, wanted: list[NestedField], *, anew: bool) -> None:
        self._config = config
        self._mirror = mirror
        self._wanted = wanted
        self._schema = mirror.table.schema()
        self._types = {field.name: to_pure(field.field_type) for field in self._schema.fields}
        ids = {column.name: str(column.field_id) for column in wanted}
        known = {name: ids[name] for name in ids if name in self._types} if anew else mirror.columns
        self._columns = ids
        self._before = {number: name for name, number in known.items()}
        self._changes: list[str] = []

    def made(self) -> SchemaPlan:
        self._check_mirror()
        renamed = self._renamed()
        types = self._grown(renamed)
        gone = set(self._before) - set(self._columns.values())
        self._changes += [f"{self._before[number]} is gone" for number in sorted(gone, key=int)]
        if self._changes and self._config.schema == "strict":
            raise SchemaConflict(
                f"mirror {self._config.mirror}: changelog {self._config.changelog} has changed: "
                f"{'; '.join(self._changes)}. To have the mirror follow, set `schema: permissive` for it in "
                "mirrors.yaml, for good or until the next merge"
            )
        metadata, schema = self._mirror.table.metadata, None
        if any(renamed.get(name, name) != name for name in self._types) or types != self._types:
            again = Schema(
                *(field.model_copy(update={"name": renamed[field.name]}) for field in self._schema.fields),
                identifier_field_ids=self._schema.identifier_field_ids,
            )
            number = 1 + max(known.schema_id for known in metadata.schemas)
            schema = evolved(again, types, last_id=metadata.last_column_id, schema_id=number)
        return SchemaPlan(schema, self._columns, tuple(self._changes))

    def _check_mirror(self) -> None:
        lost = sorted(set(self._before.values()) - set(self._types))
        if lost:
            raise MirrorForeign(
                f"mirror {self._config.mirror} lacks {', '.join(lost)}, which merges brought: somebody dropped or "
                f"renamed them in the mirror; {WAY_OUT}"
            )
        required = [field.name for field in self._schema.fields if field.required]
        if required:
            raise MirrorForeign(
                f"mirror {self._config.mirror}: somebody made {', '.join(required)} required, and rows may lack any "
                "column; make them optional again with an Iceberg client"
            )

    def _renamed(self) -> dict[str, str]:
        """The mirror's columns → what they are called from now on."""
        names = {name: name for name in self._types}
        for column in self._wanted:
            old = self._before.get(self._columns[column.name])
            if old is not None and old != column.name:
                names[old] = column.name
                self._changes.append(f"{old} is called {column.name} now")
        taken = set(self._columns)
        for name in self._types:
            owner = self._columns.get(name)
            is_new_owner = owner is not None and self._before.get(owner) != name
            if names[name] == name and is_new_owner:
                free = f"{name}_until_{self._mirror.watermark.newest if self._mirror.watermark else ''}".rstrip("_")
                while free in taken or free in self._types:
                    free += "_"
                names[name] = free
                taken.add(free)
                self._changes.append(f"{name} is another column now; the old one is called {free}")
        return names

    def _grown(self, renamed: Mapping[str, str]) -> dict[str, IcebergType]:
        """Column → its type from now on, of all that the mirror has then."""
        types = {renamed[name]: kind for name, kind in self._types.items()}
        wrong: list[str] = []
        for column in self._wanted:
            kind = to_pure(column.field_type)
            held = types.get(column.name)
            if held is None:
                types[column.name] = kind
                self._changes.append(f"{column.name} {kind} is new")
            elif held != kind and widens(held, kind):
                types[column.name] = kind
                self._changes.append(f"{column.name} was {held} and is {kind}")
            elif held != kind and not widens(kind, held):
                wrong.append(f"{column.name} is {kind} in the changelog and {held} in the mirror")
        if wrong:
            raise SchemaConflict(
                f"mirror {self._config.mirror}: {'; '.join(wrong)}, and Iceberg cannot make the one of the other; drop "
                "the mirror's table and have it made anew, or undo that in the changelog"
            )
        return types
