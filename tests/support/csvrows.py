"""PostgreSQL's CSV, read without guessing: an unquoted nothing is None, a quoted nothing is the empty string."""

import re

_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^,"\n]*))(,|\n)')


def csv_rows(text: str) -> list[list[str | None]]:
    """Rows of cells."""
    rows: list[list[str | None]] = []
    row: list[str | None] = []
    position = 0
    while position < len(text):
        cell = _CELL.match(text, position)
        assert cell is not None, text[position : position + 80]
        quoted, plain, end = cell.groups()
        row.append(quoted.replace('""', '"') if quoted is not None else plain or None)
        position = cell.end()
        if end == "\n":
            rows.append(row)
            row = []
    assert not row
    return rows
