"""Whether a table that others may have made is laid out as commits of ours need it."""

from pyiceberg.io.pyarrow import MetricModeTypes, compute_statistics_plan
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table

from activities.core.faults import SchemaConflict
from activities.core.tables import PartitionRule
from activities.lake.schema import transform_of
from activities.lake.storage import metadata_named

FORMAT = 2
CHUNK_SIZE = "icefleet.chunk-size"
"""Table property: how many values of the partition column one file holds. The partition spec does not say it: as many
Iceberg partitions hold ten times as many files of a tenth."""
_WITHOUT_BOUNDS = frozenset({MetricModeTypes.NONE, MetricModeTypes.COUNTS})


@metadata_named()
def check_layout(table: Table, rule: PartitionRule) -> None:
    """Refuse a table whose partitions, format or metrics ours would not fit.

    Raises:
        SchemaConflict: It is cut in another way than config says, has another format version, or keeps no bounds of its
            partition column.
    """
    check_chunks(table, rule)
    where = f"table {'.'.join(table.name())}"
    if table.format_version != FORMAT:
        raise SchemaConflict(
            f"{where} has format version {table.format_version}, and {FORMAT} is what we write; upgrade it with an "
            "Iceberg client if it is older, or export to a new table"
        )
    ids = {table.spec().spec_id}
    snapshot = table.current_snapshot()
    if len(table.specs()) > 1 and snapshot is not None:
        ids |= {manifest.partition_spec_id for manifest in snapshot.manifests(table.io)}
    for number in sorted(ids):
        _check_spec(where, table, rule, table.specs()[number])
    modes = compute_statistics_plan(table.schema(), table.properties)
    if modes[table.schema().find_field(rule.column).field_id].mode.type in _WITHOUT_BOUNDS:
        raise SchemaConflict(
            f"{where} keeps no bounds of its partition column {rule.column}, so nobody could see what it holds; take "
            f"write.metadata.metrics.default and write.metadata.metrics.column.{rule.column} out of its properties"
        )


def check_chunks(table: Table, rule: PartitionRule) -> None:
    """Refuse a table whose files hold more or fewer values each than config says: they would be taken for others.

    Raises:
        SchemaConflict: They do.
    """
    held = table.properties.get(CHUNK_SIZE)
    if rule.kind == "integer" and held is not None and held != str(rule.chunk_size):
        raise SchemaConflict(
            f"table {'.'.join(table.name())} holds {held} values of {rule.column} in each file (its property "
            f"{CHUNK_SIZE}), and tables.yaml says chunk_size: {rule.chunk_size}; write {held} there, with the "
            "coarse_chunks that go with it, or export to a new table"
        )


def _check_spec(where: str, table: Table, rule: PartitionRule, spec: PartitionSpec) -> None:
    wanted = transform_of(rule)
    fields = [(table.schema().find_column_name(field.source_id), field.transform) for field in spec.fields]
    if fields == [(rule.column, wanted)]:
        return
    found = ", ".join(f"{transform}({name})" for name, transform in fields) or "not partitioned"
    raise SchemaConflict(
        f"{where} is cut by {wanted}({rule.column}) in tables.yaml, and its partition spec {spec.spec_id} says "
        f"{found}; write its partition in tables.yaml as the table has it, or export to a new table"
    )
