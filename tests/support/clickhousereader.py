"""The child of `lakereaders` that is ClickHouse: one process has room for one engine, and its start is what costs.

A line on standard input asks, {"directory", "setup", "queries"}; a line on standard output answers, an error or "".
The rows of each query are a file of Arrow in the directory. Every question has a connection of its own.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import chdb


def main(answers: TextIO) -> None:
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), file=answers, flush=True)


def _answer(asked: dict[str, Any]) -> str:
    connection = chdb.connect(":memory:")
    try:
        for statement in asked["setup"]:
            connection.query(statement)
        for number, query in enumerate(asked["queries"]):
            Path(asked["directory"], f"{number}.arrow").write_bytes(connection.query(query, "Arrow").bytes())
    except RuntimeError as refused:
        return str(refused)
    finally:
        connection.close()
    return ""


if __name__ == "__main__":
    # What the engine itself prints must not come between the answers.
    with os.fdopen(os.dup(1), "w") as own:
        os.dup2(2, 1)
        main(own)
