"""The commands that documents have operators type to look at things, as they are typed against a test's own fleet."""

import re
from collections.abc import Mapping

from support.documents import ROOT, Line, shell_lines, words_of

READING = {
    *("config check", "tables", "schedules list", "schedules diff", "cdc status", "cdc dead-letters", "mirrors list"),
    *("mirrors show", "mirrors verify", "coverage", "orphans", "verify", "watch"),
}
"""What changes nothing, whatever its options are but these."""
CHANGING = {"--delete"}
DOCUMENTS = [ROOT / "docs/operators.md", *sorted((ROOT / "docs/runbooks").rglob("*.md"))]


def reads(line: Line) -> bool:
    """Whether a command only looks, and ends by itself."""
    words = words_of(line)
    if words[0] != "icefleet" or CHANGING & set(words):
        return False
    if words[1] == "watch" and "--count 1" not in line.text:
        return False
    return "--dry-run" in words or words[1] in READING or " ".join(words[1:3]) in READING


def typed(names: Mapping[str, str]) -> dict[tuple[str, ...], Line]:
    """Words of each command that only looks, and where it first stands; `names` of documents → those to be typed.

    The environment is not among them: it is said by ICEFLEET_ENVIRONMENT.
    """
    pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
    found: dict[tuple[str, ...], Line] = {}
    for line in (line for path in DOCUMENTS for line in shell_lines(path) if line.text.startswith("icefleet ")):
        if reads(line):
            text = re.sub(r" -e production\b", "", line.text)  # which is where all of them are typed
            words = words_of(Line(line.path, line.number, text))[1:]
            found.setdefault(tuple(pattern.sub(lambda name: names[name[0]], word) for word in words), line)
    return found
