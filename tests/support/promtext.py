"""What Prometheus reads from a worker's text: families with their kind and labels."""

import re
from dataclasses import dataclass, field

SAMPLE = re.compile(r"(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? \S+")
LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')
EVERYWHERE = frozenset({"environment"})
"""Labels that all metrics of a worker have."""


@dataclass
class Family:
    """One metric: a histogram's buckets, sum and count are one."""

    kind: str
    labels: set[str] = field(default_factory=set)
    """Without those that all metrics have."""
    series: int = 0


def families(text: str) -> dict[str, Family]:
    """Name → family, of everything in a text."""
    found: dict[str, Family] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            found.setdefault(name, Family(kind))
        elif line and not line.startswith("#"):
            sample = SAMPLE.fullmatch(line)
            assert sample is not None, line
            family = found[family_of(sample["name"], found)]
            family.labels |= set(LABEL.findall(sample["labels"] or "")) - EVERYWHERE - {"le"}
            family.series += 1
    return found


def family_of(name: str, known: dict[str, Family]) -> str:
    """The family that a sample belongs to; the name itself when it is none's part."""
    whole = re.sub(r"_(bucket|sum|count)$", "", name)
    return whole if whole in known and known[whole].kind == "histogram" else name
