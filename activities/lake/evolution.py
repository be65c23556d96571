"""Bringing a table to what an export needs: made, its schema evolved, its name mapping completed; in one commit.

As with data, nothing is re-applied blindly: after anything but a clean answer the table is loaded again, and what it
then lacks is sent. Two workers that evolve a table at once end with the same table, whoever was first.
"""

from collections.abc import Callable

from pyiceberg.table import Table
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertLastAssignedFieldId,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableUpdate,
)

from activities.core.columns import ExportColumn
from activities.core.evolution import TableShape, changes
from activities.core.faults import CatalogUnavailable, CommitConflict
from activities.core.tables import PartitionRule
from activities.lake import sending
from activities.lake.catalog import Lake
from activities.lake.files import existing_files
from activities.lake.layout import CHUNK_SIZE, check_layout
from activities.lake.mapping import check_new_names, completed_mapping
from activities.lake.schema import NAME_MAPPING, evolved, shape_of
from activities.lake.sending import Answer, send, tries

Decide = Callable[[TableShape | None], tuple[ExportColumn, ...]]
"""What is to be exported, given the table; it raises what stands against it."""


def ensure_table(lake: Lake, identifier: str, rule: PartitionRule, decide: Decide) -> Table:
    """The table, ready for objects with the columns that `decide` answers; `decide` is asked again for every head.

    Raises:
        SchemaConflict: it cannot be made ready; or whatever else `decide` raises.
        CommitConflict: other writers won every try.
        CatalogUnavailable: the catalog cannot be reached, or answers every try with an error.
    """
    answer, table = Answer(landed=False), None
    for may_send in tries():
        table = lake.load(identifier)
        if table is None:
            lake.create(identifier, decide(None), rule)
            continue
        updates = updates_for(table, rule, decide)
        if not updates:
            return table
        if may_send:
            last = {"last-assigned-field-id": table.metadata.last_column_id}
            answer = send(lake, table, updates, [AssertLastAssignedFieldId.model_validate(last)])
    if table is None:
        raise CatalogUnavailable(f"the catalog says both that table {identifier} exists and that it does not")
    if answer.unanswered is not None:
        raise lake.unavailable(
            f"table {identifier}: none of {sending.TRIES} changes of its schema landed", answer.unanswered
        )
    raise CommitConflict(
        f"table {identifier}: {sending.TRIES} changes of its schema in a row lost against other writers; look for a "
        "foreign writer, then ask for the same range again"
    )


def look_ahead(lake: Lake, identifier: str, rule: PartitionRule, decide: Decide) -> Table | None:
    """The table as it is, None when there is none; raises what would keep it from being made ready."""
    table = lake.load(identifier)
    if table is None:
        decide(None)
    else:
        updates_for(table, rule, decide)
    return table


def updates_for(table: Table, rule: PartitionRule, decide: Decide) -> list[TableUpdate]:
    """What the table's metadata lack for the columns that `decide` answers; empty when it is ready.

    Raises:
        SchemaConflict: it cannot be made ready; or whatever else `decide` raises.
    """
    shape, where = shape_of(table), f"table {'.'.join(table.name())}"
    wanted = {column.name: column.iceberg for column in decide(shape)}
    check_layout(table, rule)
    schema, updates = table.schema(), list[TableUpdate]()
    if changes(shape.types, wanted):
        next_id = 1 + max(known.schema_id for known in table.metadata.schemas)
        schema = evolved(schema, wanted, last_id=table.metadata.last_column_id, schema_id=next_id)
        check_new_names(where, table.metadata.schemas, table.schema(), schema)
        updates += [AddSchemaUpdate(schema=schema), SetCurrentSchemaUpdate()]
    properties: dict[str, str] = {}
    mapping = completed_mapping(where, table.properties, schema)
    if mapping is not None:
        properties[NAME_MAPPING] = mapping
    if rule.kind == "integer" and CHUNK_SIZE not in table.properties:
        existing_files(table, rule, "")  # what is there already must fit: it is said for good
        properties[CHUNK_SIZE] = str(rule.chunk_size)
    if properties:
        updates.append(SetPropertiesUpdate(updates=properties))
    return updates
