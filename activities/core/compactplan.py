"""Which files of a mirror are to be rewritten: many small ones, and such of which much is deleted."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from activities.core.mirrors import CompactionRules

ROWS_PER_TURN = 4 * 2**20
"""Rows that one turn rewrites: what the index has to learn of them is kept in memory, some 100 bytes for each."""
_PAIR = 2


@dataclass(frozen=True)
class FileFacts:
    """A data file, as far as this room needs to know it."""

    path: str
    partition: Hashable
    """Files of different ones are never put together."""
    size: int
    """Bytes."""
    rows: int
    deleted: int
    """Of these rows."""


@dataclass(frozen=True)
class Chosen:
    """What a turn rewrites."""

    files: tuple[FileFacts, ...]
    """Those of one partition beside each other, in the order in which they were given."""
    more: bool
    """Whether a turn after this one has something to do."""


def due(files: Iterable[FileFacts], rules: CompactionRules) -> str:
    """Why files should be rewritten; empty: they need not."""
    small, deleted = _by_rules(list(files), rules)
    said = [f"{len(small)} files are small"] if small else []
    said += [f"of {len(deleted)} files more than {rules.deleted_ratio:.0%} is deleted"] if deleted else []
    return "; ".join(said)


def choose(files: Sequence[FileFacts], rules: CompactionRules, *, thorough: bool = False) -> Chosen:
    """What to rewrite now; `thorough`: whatever is small or has deleted rows, whether it is due or not."""
    small, deleted = _all(files, rules) if thorough else _by_rules(files, rules)
    wanted = {file.path for file in (*small, *deleted)}
    taken: list[FileFacts] = []
    size = rows = 0
    groups = defaultdict[Hashable, list[FileFacts]](list)
    for file in files:
        if file.path in wanted:
            groups[file.partition].append(file)
    ordered = [file for group in groups.values() for file in group]
    for file in ordered:
        size, rows = size + file.size, rows + file.rows
        if len(taken) >= _PAIR and (size > rules.bytes_per_turn or rows > ROWS_PER_TURN):
            break
        taken.append(file)
    taken = _without_idle(taken)
    return Chosen(tuple(taken), more=len(taken) < len(ordered) and bool(taken))


def _by_rules(files: Sequence[FileFacts], rules: CompactionRules) -> tuple[list[FileFacts], list[FileFacts]]:
    """The small ones and, of the others, the mostly deleted ones.

    Small files are put together by about `small_files` of a size at once: so a row is rewritten a few times until it
    lies in a large file, and not each time when some more rows have come. What is deleted of small files costs readers
    little, and would otherwise have them rewritten after every merge.
    """
    deleted = [file for file in files if not is_small(file, rules) and file.deleted > rules.deleted_ratio * file.rows]
    small: list[FileFacts] = []
    for group in _small(files, rules).values():
        tiers = defaultdict[int, list[FileFacts]](list)
        for file in group:
            tiers[_tier(file, rules)].append(file)
        full = [tier for tier, held in tiers.items() if len(held) >= rules.small_files]
        if full:
            small += [file for tier, held in tiers.items() if tier >= min(full) for file in held]
    return small, deleted


def _all(files: Sequence[FileFacts], rules: CompactionRules) -> tuple[list[FileFacts], list[FileFacts]]:
    small = [file for group in _small(files, rules).values() if len(group) >= _PAIR for file in group]
    return small, [file for file in files if file.deleted]


def _small(files: Sequence[FileFacts], rules: CompactionRules) -> dict[Hashable, list[FileFacts]]:
    groups = defaultdict[Hashable, list[FileFacts]](list)
    for file in files:
        if is_small(file, rules):
            groups[file.partition].append(file)
    return groups


def is_small(file: FileFacts, rules: CompactionRules) -> bool:
    """Whether it is put together with others, however little of it is deleted."""
    return file.size < min(rules.small_file_bytes, rules.target_file_bytes) and file.rows < ROWS_PER_TURN // 2


def _tier(file: FileFacts, rules: CompactionRules) -> int:
    """How many times as many files of this size must be put together until they are not small any more."""
    return int(math.log(rules.small_file_bytes / max(file.size, 1), max(_PAIR, rules.small_files)))


def _without_idle(taken: Sequence[FileFacts]) -> list[FileFacts]:
    """Without files that would become what they are: alone in their partition, and nothing of them deleted."""
    alone = defaultdict[Hashable, int](int)
    for file in taken:
        alone[file.partition] += 1
    return [file for file in taken if file.deleted or alone[file.partition] >= _PAIR]
