"""What a batch of objects means against a head that may have moved: the plan of a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from activities.core.planning import ExistingFile


@dataclass(frozen=True)
class NewFile:
    """An object that is to hold one partition."""

    index: int
    path: str
    reason: str
    """`missing`, `stale` or `forced`."""
    replaces: str = ""
    """Path of the file that it replaces, as the planner saw it."""


@dataclass(frozen=True)
class Removal:
    """A partition whose file is to go: its path, as the planner saw it."""

    index: int
    path: str


@dataclass(frozen=True)
class CommitPlan:
    """Which of the new files change the table."""

    add: tuple[NewFile, ...]
    replace: tuple[tuple[NewFile, ExistingFile], ...]
    there: tuple[NewFile, ...]
    """Left out: the head holds this very object, or another writer's for the same partition."""
    remove: tuple[ExistingFile, ...] = ()
    """Files that go without another one in their place."""
    kept: tuple[Removal, ...] = ()
    """Not removed: the head holds another file of the partition by now."""

    @property
    def files(self) -> tuple[NewFile, ...]:
        """Everything that becomes part of the table."""
        return (*self.add, *(new for new, _ in self.replace))

    @property
    def outdated(self) -> dict[int, str]:
        """Partition → path of the file that it loses."""
        return {file.index: file.key for file in (*(held for _, held in self.replace), *self.remove)}

    @property
    def changes_files(self) -> bool:
        """Whether the table holds other files afterwards."""
        return bool(self.add or self.replace or self.remove)


def plan_commit(
    head: Mapping[int, ExistingFile], files: Sequence[NewFile], removals: Sequence[Removal] = ()
) -> CommitPlan:
    """Hold `files` and `removals` against the head.

    A partition that the head holds is replaced, or emptied, only if the head's file is the one that was to go: anything
    else was put there by a commit that the planner had not seen, and is at least as new.
    """
    add: dict[int, NewFile] = {}
    replace: dict[int, tuple[NewFile, ExistingFile]] = {}
    there: list[NewFile] = []
    for file in files:
        held = head.get(file.index)
        if file.index in add or file.index in replace:
            there.append(file)
        elif held is None:
            add[file.index] = file
        elif held.key == file.replaces != file.path:
            replace[file.index] = (file, held)
        else:
            there.append(file)
    asked = {removal.index: removal for removal in removals if removal.index not in {file.index for file in files}}
    remove = [head[index] for index, removal in asked.items() if index in head and head[index].key == removal.path]
    kept = [removal for index, removal in asked.items() if index in head and head[index].key != removal.path]
    return CommitPlan(tuple(add.values()), tuple(replace.values()), tuple(there), tuple(remove), tuple(kept))
