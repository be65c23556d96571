"""Other tables that may name the files of one: it was renamed, or somebody laid a table over them."""

from collections.abc import Callable, Iterator

from pyiceberg.table import Table

from activities.lake.catalog import Lake


def neighbours(lake: Lake, identifier: str, is_known: Callable[[str], bool]) -> Iterator[Table]:
    """The other tables of a table's namespace, but for those that are known to have files of their own."""
    for other in lake.tables_in(tuple(identifier.split(".")[:-1])):
        if other != identifier and not is_known(other) and (table := lake.load(other)) is not None:
            yield table
