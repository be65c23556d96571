"""`make figures`: the README's figures, written from what the benchmarks measured last.

Reads `benchmarks/results/*.json` and replaces what stands between the two markers in README.md.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import RESULTS

BEGIN = "<!-- figures: written by `make figures` -->"
END = "<!-- end of figures -->"


def lines_of(documents: Iterable[dict[str, Any]]) -> list[str]:
    """A Markdown table of every figure, a line on the machine above each document's own."""
    lines: list[str] = []
    for document in documents:
        machine = document["machine"]
        scale = "" if machine["scale"] == 1 else f", at {machine['scale']:g} of the full size"
        where = f"{machine['cores']} cores and {machine['memory_gb']:g} GB ({machine['processor']})"
        lines += [
            f"On {where}, Python {machine['python']}{scale}; medians:",
            "",
            "| figure | measured | aim | repeat with |",
            "|---|---|---|---|",
        ]
        for figure in document["figures"]:
            sign = "≤" if figure["better"] == "lower" else "≥"
            aim = "" if figure["aim"] is None else f"{sign} {figure['aim']:g}"
            missed = "" if is_met(figure) else " (missed)"
            measured = f"{figure['value']:.3g} {figure['unit']}"
            lines.append(f"| `{figure['name']}` | {measured} | {aim}{missed} | `{figure['command']}` |")
        lines.append("")
    return lines


def is_met(figure: dict[str, Any]) -> bool:
    """Whether a figure reaches its aim; one without an aim does."""
    if figure["aim"] is None:
        return True
    return bool(figure["value"] <= figure["aim"] if figure["better"] == "lower" else figure["value"] >= figure["aim"])


def rewrite(readme: str, documents: Iterable[dict[str, Any]]) -> str:
    """The README with new figures between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks the markers {BEGIN!r} and {END!r}")
    return "\n".join([f"{before}{BEGIN}", "", *lines_of(documents), f"{END}{after}"])


def main() -> None:
    """Rewrite README.md."""
    found = sorted(RESULTS.glob("*.json"))
    if not found:
        sys.exit(f"nothing was measured yet: {RESULTS} holds no results; run `make bench-export` first")
    path = Path("README.md")
    path.write_text(rewrite(path.read_text(), [json.loads(one.read_text()) for one in found]))
    print(f"README.md shows the figures of {', '.join(one.name for one in found)}")


if __name__ == "__main__":
    main()
