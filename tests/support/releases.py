"""What has been released: the changelog has a date for it."""

import re
from pathlib import Path

RELEASED = re.compile(r"^## (\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)$", re.MULTILINE)


def released(root: Path) -> list[str]:
    """Versions, newest first."""
    return RELEASED.findall((root / "CHANGELOG.md").read_text(encoding="utf-8"))
