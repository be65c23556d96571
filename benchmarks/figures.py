"""`make figures`: what the benchmarks measured last, written into documents.

Reads `benchmarks/results/*.json` and replaces what stands between the two markers in README.md, which shows the figures
that have an aim and a few more, and in docs/benchmarks.md, which shows all of them.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from harness import RESULTS, Figure

BEGIN = "<!-- figures: written by `make figures` -->"
END = "<!-- end of figures -->"
README = Path("README.md")
ALL_FIGURES = Path("docs/benchmarks.md")
MAIN = (
    "export.5m.time_ratio_vs_arrow",
    "export.5m.time_ratio_vs_in_memory",
    "merge.10m.1k.seconds",
    "merge.10m.1k.speedup_vs_duckdb_merge",
    "merge.10m.100k.seconds",
    "worker.start_seconds",
    "worker.idle_rss_mb",
)
"""What the README shows although nobody has said what it should be: what people compare or ask for."""

Document = dict[str, Any]
"""What one benchmark wrote: `machine`, and `figures`."""


def main_figures(documents: Iterable[Document]) -> list[Document]:
    """The documents with the figures that the README shows; those that have none are left out."""
    chosen = [
        {**one, "figures": [figure for figure in one["figures"] if figure["aim"] is not None or figure["name"] in MAIN]}
        for one in documents
    ]
    return [one for one in chosen if one["figures"]]


def lines_of(documents: Iterable[Document]) -> list[str]:
    """Markdown: one table for all neighbours that one machine measured, and above it a line on the machine."""
    lines: list[str] = []
    for machine, measured in groupby(documents, key=lambda document: document["machine"]):
        scale = "" if machine["scale"] == 1 else f", at {machine['scale']:g} of the full size"
        where = f"{machine['cores']} cores and {machine['memory_gb']:g} GB ({machine['processor']})"
        lines += [
            f"On {where}, Python {machine['python']}{scale}; medians:",
            "",
            "| figure | measured | aim | repeat with |",
            "|---|---|---|---|",
            *(_row(Figure(**figure)) for document in measured for figure in document["figures"]),
            "",
        ]
    return lines


def _row(figure: Figure) -> str:
    missed = " (missed)" if figure.met is False else ""
    return f"| `{figure.name}` | {figure.value:.3g} {figure.unit} | {figure.aim_words}{missed} | `{figure.command}` |"


def rewrite(text: str, documents: Iterable[Document]) -> str:
    """A text with new figures between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document lacks the markers {BEGIN!r} and {END!r}")
    return "\n".join([f"{before}{BEGIN}", "", *lines_of(documents), f"{END}{after}"])


def rewrite_file(path: Path, documents: Sequence[Document]) -> None:
    """Rewrite a document where it lies.

    Raises:
        ValueError: a marker is missing.
    """
    path.write_text(rewrite(path.read_text(), documents))
    print(f"{path} shows figures")


def main() -> None:
    """Rewrite both documents."""
    found = sorted(RESULTS.glob("*.json"))
    if not found:
        sys.exit(f"nothing was measured yet: {RESULTS} holds no results; run `make bench-export` first")
    documents = [json.loads(one.read_text()) for one in found]
    rewrite_file(README, main_figures(documents))
    rewrite_file(ALL_FIGURES, documents)


if __name__ == "__main__":
    main()
