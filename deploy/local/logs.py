"""The logs of the parts, their last lines and what follows."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.local.parts import log_path
from deploy.local.process import tail

POLL_SECONDS = 0.2


def last_lines(directory: Path, parts: Sequence[str], lines: int) -> Iterator[tuple[str, str]]:
    """The last lines of every part's log as (part, line), part by part."""
    for part in parts:
        for line in tail(log_path(directory, part), lines):
            yield part, line


def new_lines(directory: Path, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Lines that are written from now on as (part, line), for ever; a log that is set aside is left for the new one."""
    offsets = {part: _size(log_path(directory, part)) for part in parts}
    while True:
        for part in parts:
            log = log_path(directory, part)
            size = _size(log)
            if size < offsets[part]:
                offsets[part] = 0
            if size > offsets[part]:
                with log.open("rb") as file:
                    file.seek(offsets[part])
                    whole, newline, _ = file.read(size - offsets[part]).rpartition(b"\n")
                offsets[part] += len(whole) + len(newline)
                for line in whole.decode("utf-8", "replace").splitlines():
                    yield part, line
        time.sleep(POLL_SECONDS)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
