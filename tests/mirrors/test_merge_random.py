"""Random histories, cut, shuffled, replayed and merged while all kinds of work come between: a dict says what is right.

`MERGE_SEED=7 MERGE_TURNS=100 pytest tests/mirrors/test_merge_random.py` repeats one, and makes it longer.
"""

import os
import random
import shutil
from dataclasses import replace

from temporalio.testing import ActivityEnvironment

from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import MirrorInput
from activities.mirror_index import rebuild_index
from support.mirrors import Row, opened

SEED = int(os.environ.get("MERGE_SEED", "20240320"))
TURNS = int(os.environ.get("MERGE_TURNS", "12"))
FIELDS = {"id": "long", "name": "string", "note": "string", "place": "int"}


class History:
    """Transactions over a table of which PostgreSQL would log no long note that did not change."""

    def __init__(self, chance):
        self.chance = chance
        self.lsn = 0x100
        self.state = {}
        self.rows = []

    def transaction(self):
        """A few changes with one LSN; now and then everything is truncated, or a key changes."""
        self.lsn += 0x10
        made, kind = [], self.chance.random()
        if kind < 0.02:
            self.state.clear()
            made.append(Row("truncate", {}, self.lsn))
        elif kind < 0.12 and self.state:
            made += self._moved()
        while len(made) < self.chance.randint(1, 5):
            made.append(self._change(len(made)))
        self.rows += made
        return made

    def _change(self, ordinal):
        key = self.chance.randint(0, 60)
        old = self.state.get(key)
        if old is not None and self.chance.random() < 0.3:
            del self.state[key]
            return Row("delete", {"id": key}, self.lsn, ordinal)
        if old is not None and self.chance.random() < 0.4:
            values = {"id": key, "name": self._text(), "place": self.chance.randint(0, 2)}
            self.state[key] = {**values, "note": old["note"]}
            return Row("update", values, self.lsn, ordinal, ("note",))
        values = {"id": key, "name": self._text(), "note": self._text() * 50, "place": self.chance.randint(0, 2)}
        self.state[key] = values
        return Row("insert" if old is None else "update", values, self.lsn, ordinal)

    def _moved(self):
        """A row whose key changes: a delete and an insert that does not carry the note."""
        old, new = self.chance.choice(sorted(self.state)), self.chance.randint(61, 80)
        if new in self.state:
            return []
        row = self.state.pop(old)
        values = {"id": new, "name": row["name"], "place": row["place"]}
        self.state[new] = {**values, "note": row["note"]}
        return [Row("delete", {"id": old}, self.lsn, 0), Row("insert", values, self.lsn, 1, ("note",))]

    def _text(self):
        return f"t{self.chance.randint(0, 10**6)}"


async def something(mirror, chance):
    """What comes between two merges."""
    asked, kind = MirrorInput(mirror.fleet.name, mirror.config.mirror), chance.random()
    if kind < 0.1:
        await ActivityEnvironment().run(rebuild_index, mirror.context, asked)
    elif kind < 0.15:
        await ActivityEnvironment().run(bootstrap_mirror, mirror.context, asked)
    elif kind < 0.3:
        await mirror.compact(thorough=True)
    elif kind < 0.4:
        shutil.rmtree(mirror.context.cache_directory, ignore_errors=True)
        cold = mirror.context.cache_directory.with_name(f"cold-{chance.randint(0, 10**9)}")
        mirror.context = replace(mirror.context, cache_directory=cold)
    elif kind < 0.5:
        mirror.configure(batch_rows=chance.choice([2, 7, 1000]))


async def test_whatever_comes_in_whatever_order_the_mirror_is_what_the_source_is(fleet):
    print(f"MERGE_SEED={SEED}")  # noqa: T201 - shown when the test fails
    chance = random.Random(SEED)
    partition = chance.choice([(), (("place", "identity"),), (("id", "bucket[2]"),)])
    async with opened(fleet, FIELDS, partition=partition) as mirror:
        history = History(chance)
        for _ in range(TURNS):
            fresh = [row for _ in range(chance.randint(1, 12)) for row in history.transaction()]
            chance.shuffle(fresh)
            replayed = chance.sample(history.rows, chance.randint(0, min(8, len(history.rows))))
            await mirror.write(*fresh, *replayed)
            if chance.random() < 0.3:
                continue  # so that one merge has several snapshots
            await mirror.drain()
            assert mirror.read("id", "name", "note", "place") == sorted(
                ((key, row["name"], row["note"], row["place"]) for key, row in history.state.items()),
                key=lambda row: repr([row[0]]),
            )
            mirror.check_index()
            await something(mirror, chance)
        await mirror.drain()
        mirror.check_index()
        found = {row[1]: row[2:] for row in mirror.by_all_readers()}
        assert found == {key: (row["name"], row["note"], row["place"]) for key, row in history.state.items()}
