"""Named points at which a crash test may stop the world. They cost a dict look-up when off.

Export: `before-upload`, `during-upload`, `after-upload`, `before-commit`, `after-commit`, `before-announce`,
`after-announce`. Orphans: `before-delete`. Publishing: `before-public-manifest`, `before-public-list`,
`before-public-version`, `before-public-hint`. Upkeep: `before-refresh`, `after-refresh`, `before-expire`,
`after-expire`, `before-manifests`, `after-manifests`. Upkeep of changelogs: `keep-after-rewrite`,
`keep-before-commit`, `keep-after-commit`, `keep-after-expire`, `keep-before-note`. Ingest: `cdc-before-claim`,
`cdc-after-claim`, `cdc-before-upload`, `cdc-after-upload`, `cdc-before-commit`, `cdc-after-commit`, `cdc-after-mark`.
Capture: `cdc-before-buffer`, `cdc-during-buffer`, `cdc-after-buffer`, `cdc-before-feedback`. First copies:
`cdc-during-copy`, `cdc-before-copy-commit`, `cdc-after-copy-sent`, `cdc-after-copy-commit`. Setting pipelines up:
`install-after-buffer`, `install-after-trigger`, `install-after-publication`, `install-before-drop`,
`install-before-slot`, `install-after-slot`, `install-after-begin`, `install-after-publish`, `install-after-table`; and
taking them down: `uninstall-after-slot`, `uninstall-after-source`, `uninstall-before-buffer`. Mirrors:
`merge-before-read`, `merge-after-write`, `merge-after-index`, `merge-before-commit`, `merge-after-commit`,
`compact-after-write`, `compact-before-commit`, `compact-after-commit`, `tidy-before-expire`, `tidy-after-expire`,
`tidy-before-delete`, `tidy-after-delete`. Their indexes, made anew: `rebuild-before-store`, `rebuild-after-store`,
`rebuild-before-commit`, `rebuild-after-commit`.
"""

import os
import signal
from collections.abc import Awaitable, Callable

NAMES = frozenset(
    {
        "before-upload",
        "during-upload",
        "after-upload",
        "before-commit",
        "after-commit",
        "before-announce",
        "after-announce",
        "before-delete",
        "before-public-manifest",
        "before-public-list",
        "before-public-version",
        "before-public-hint",
    }
)
UPKEEP_NAMES = frozenset(
    {"before-refresh", "after-refresh", "before-expire", "after-expire", "before-manifests", "after-manifests"}
)
INGEST_NAMES = frozenset(
    {
        "cdc-before-claim",
        "cdc-after-claim",
        "cdc-before-upload",
        "cdc-after-upload",
        "cdc-before-commit",
        "cdc-after-commit",
        "cdc-after-mark",
    }
)
CAPTURE_NAMES = frozenset({"cdc-before-buffer", "cdc-during-buffer", "cdc-after-buffer", "cdc-before-feedback"})
CHANGELOG_UPKEEP_NAMES = frozenset(
    {
        "keep-after-rewrite",
        "keep-before-commit",
        "keep-after-commit",
        "keep-after-expire",
        "keep-before-note",
    }
)
COPY_NAMES = frozenset({"cdc-during-copy", "cdc-before-copy-commit", "cdc-after-copy-sent", "cdc-after-copy-commit"})
INSTALL_NAMES = frozenset(
    {
        "install-after-buffer",
        "install-after-trigger",
        "install-after-publication",
        "install-before-drop",
        "install-before-slot",
        "install-after-slot",
        "install-after-begin",
        "install-after-publish",
        "install-after-table",
    }
)
UNINSTALL_NAMES = frozenset({"uninstall-after-slot", "uninstall-after-source", "uninstall-before-buffer"})
MERGE_NAMES = frozenset(
    {"merge-before-read", "merge-after-write", "merge-after-index", "merge-before-commit", "merge-after-commit"}
)
MIRROR_UPKEEP_NAMES = frozenset(
    {
        *("compact-after-write", "compact-before-commit", "compact-after-commit"),
        *("tidy-before-expire", "tidy-after-expire", "tidy-before-delete", "tidy-after-delete"),
    }
)
REBUILD_NAMES = frozenset(
    {"rebuild-before-store", "rebuild-after-store", "rebuild-before-commit", "rebuild-after-commit"}
)
ALL_NAMES = (
    NAMES
    | UPKEEP_NAMES
    | INGEST_NAMES
    | CAPTURE_NAMES
    | COPY_NAMES
    | INSTALL_NAMES
    | UNINSTALL_NAMES
    | CHANGELOG_UPKEEP_NAMES
    | MERGE_NAMES
    | MIRROR_UPKEEP_NAMES
    | REBUILD_NAMES
)
_armed: dict[str, Callable[[], Awaitable[None]]] = {}


async def reach(name: str) -> None:
    """Say that the work is at this point; what happens then is the test's."""
    if action := _armed.get(name):
        await action()


def arm(name: str, action: Callable[[], Awaitable[None]]) -> None:
    """Do `action` whenever the point is reached.

    Raises:
        ValueError: there is no such point.
    """
    if name not in ALL_NAMES:
        raise ValueError(f"no failpoint is called {name!r}; there are {', '.join(sorted(ALL_NAMES))}")
    _armed[name] = action


def arm_death(where: str) -> None:
    """End this process when a point is reached: `after-commit` at once, `after-commit:3` at the third time.

    Raises:
        ValueError: there is no such point, or the number is none.
    """
    name, _, number = where.partition(":")
    left = int(number or 1)

    async def count() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            await die()

    arm(name, count)


def disarm() -> None:
    """Switch every point off."""
    _armed.clear()


async def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
