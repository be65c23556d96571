"""Which metadata files a table still needs: the current one, and as many earlier ones as its properties say."""

from collections.abc import Mapping

from pyiceberg.table import Table

KEPT = "write.metadata.previous-versions-max"
KEPT_BY_DEFAULT = 100
"""Iceberg's own."""
LETS_GO = "write.metadata.delete-after-commit.enabled"


def named_metadata(table: Table) -> set[str]:
    """Paths of the metadata files that must stay: the current one, and those of its log.

    Of the log as many as the table's properties keep; all of it, where they do not say that earlier ones may go.
    """
    log = [entry.metadata_file for entry in table.metadata.metadata_log]
    return {table.metadata_location, *log[len(log) - _kept(table.properties, len(log)) :]}


def _kept(properties: Mapping[str, str], there: int) -> int:
    if properties.get(LETS_GO, "false").lower() != "true":
        return there
    text = properties.get(KEPT, "")
    return min(there, max(1, int(text)) if text.isdigit() else KEPT_BY_DEFAULT)
