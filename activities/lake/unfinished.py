"""What is being made in a directory of this worker's, and what workers that were killed have left there."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
"""How the names end of what is being made: nobody else may delete it."""
_ABANDONED_SECONDS = 86_400
"""Nothing takes so long to be made."""


@contextmanager
def room(directory: Path) -> Iterator[Path]:
    """A directory in that one for files of one's own, which goes at the end with all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(suffix=PART, dir=directory, ignore_cleanup_errors=True) as path:
        yield Path(path)


def drop_abandoned(directory: Path) -> None:
    """Delete what nobody can be making any more: whoever is killed deletes nothing."""
    for path in directory.glob(f"*{PART}"):
        with suppress(FileNotFoundError):  # another process tidies too
            if path.stat().st_mtime >= time.time() - _ABANDONED_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
