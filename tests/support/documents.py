"""What stands in the documents: commands, links and headings, with file and line."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^\s*(```|~~~)\s*(\w*)")
_SHELL = {"", "bash", "console", "sh", "shell"}
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*$")


@dataclass(frozen=True)
class Line:
    """A line of a document; one that a backslash ended is joined with the next."""

    path: Path
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.number}: {self.text}"


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def shell_lines(path: Path) -> Iterator[Line]:
    """Lines that a reader is to type: of shell fences, and of blocks that are indented."""
    fence: str | None = None
    begun, held = 0, ""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if found := _FENCE.match(text):
            fence = None if fence is not None else found[2].lower()
            continue
        if fence is None and not text.startswith("    "):
            continue
        if fence is not None and fence not in _SHELL:
            continue
        part = text.strip().removeprefix("$ ")
        begun = begun if held else number
        if part.endswith("\\"):
            held += part[:-1]
            continue
        yield Line(path, begun, held + part)
        held = ""


def words_of(line: Line) -> list[str]:
    """A command's words, without what a comment says and without what its output is piped into."""
    words = shlex.split(line.text, comments=True)
    end = next((place for place, word in enumerate(words) if word in {"|", "&&", "||", ">", ">>", ";"}), len(words))
    return [word.removesuffix(";") for word in words[:end]]


def links(path: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every link."""
    fenced = False
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if _FENCE.match(text):
            fenced = not fenced
        elif not fenced:
            yield from ((number, target) for target in _LINK.findall(text))


def anchors(path: Path) -> set[str]:
    """The headings of a document, as links name them."""
    found = set()
    for text in path.read_text().splitlines():
        if heading := _HEADING.match(text):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found
