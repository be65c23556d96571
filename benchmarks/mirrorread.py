"""A mirror read whole after merges that nothing compacted, and after a compaction, beside a table written at once."""

from collections.abc import Iterator
from typing import Literal

from harness import scale
from mirrorpeers import copied, make_table
from mirrorreads import ENGINES, read_seconds
from mirrorspeed import check, compact_all, pieces
from mirrorworld import ENVIRONMENT, World

Found = tuple[str, float, str, Literal["lower", "higher"]]
NAME = "reads"
ROWS = 10_000_000
CHANGES = 100_000
LOOKS = (1, 10, 50)


def read_figures(world: World) -> Iterator[Found]:
    """Seconds over those of a fresh table with the same rows."""
    changelog, rows = world.filled(NAME, max(10_000, int(ROWS * scale())))
    changes, merges = max(100, int(CHANGES * scale())), 0
    for look in LOOKS:
        while merges < look:
            changelog.append(rows.batch(changes).changes)
            world.merge(NAME)
            merges += 1
        yield from compared(world, f"mirror.read_ratio_after_{look}_merges", f"fresh.after_{look}")
    compact_all(world, NAME, thorough=True)
    check(world.table(NAME), rows, NAME)
    yield from compared(world, "mirror.read_ratio_after_compaction", "fresh.after_compaction")


def compared(world: World, prefix: str, fresh: str) -> Iterator[Found]:
    """By each engine."""
    table = world.table(NAME)
    entries = table.inspect.files()["content"].to_pylist()
    print(f"  {entries.count(0)} data files, {entries.count(1)} delete files", flush=True)
    mirror = f"mirror.{NAME}"
    make_table(world.catalog, fresh, pieces(copied(table)))
    for engine in ENGINES:
        found = read_seconds(ENVIRONMENT, engine, [mirror, fresh])
        own, other = found[mirror], found[fresh]
        if own.found != other.found:
            raise RuntimeError(f"{engine} reads {own.found} from {mirror} and {other.found} from {fresh}")
        yield f"{prefix}.{engine}", own.seconds / other.seconds, "times", "lower"
        yield f"{prefix}.{engine}_seconds", own.seconds, "s", "lower"
        yield f"{prefix}.{engine}_cpu", own.cpu / other.cpu, "times", "lower"
