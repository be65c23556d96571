"""Sending updates to the catalog by hand, and judging what came of it."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from opentelemetry import metrics
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemovePropertiesUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from activities.core.faults import CommitConflict, Fault
from activities.lake.catalog import REFUSALS, Lake, says_no

log = logging.getLogger("icefleet.commits")
TRIES = 20
"""Races against other writers that one call may lose."""
WAIT_SECONDS = 0.05
_CONFLICTS = metrics.get_meter("icefleet").create_counter(
    "icefleet.commit.conflicts", description="Commits that the catalog refused because another writer was faster"
)


def tries() -> Iterator[bool]:
    """Whether updates may still be sent: TRIES times, with pauses between them, and a last time only to look.

    So what became of the last try is known before anybody is told.
    """
    for attempt in range(TRIES + 1):
        if attempt:
            time.sleep(random.uniform(0, WAIT_SECONDS * min(attempt, 10)))  # noqa: S311 - jitter, not a secret
        yield attempt < TRIES


@dataclass(frozen=True)
class Answer:
    """What the catalog said: updates that neither landed nor were refused may land at any time."""

    landed: bool
    refused: bool = False
    unanswered: Exception | None = None
    """What came instead of an answer; None when there was one."""
    table: Table | None = None
    """The table with the updates, when they landed."""


def refused_told(table: Table, times: int = 1) -> None:
    """Report that commits to a table were refused because another writer was faster."""
    *network, name = table.name()
    _CONFLICTS.add(times, {"network": ".".join(network), "table": name})
    if times:
        log.info("a commit to %s was refused, since another writer was faster", ".".join(table.name()))


def send(
    lake: Lake, table: Table, updates: Iterable[TableUpdate], requirements: Iterable[TableRequirement] = ()
) -> Answer:
    """Send updates that were made for `table`: they land only on it, with the schema and spec that it has.

    Raises:
        CatalogRefused: the catalog does not accept the credential, or the request as such.
    """
    metadata = table.metadata
    own = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": metadata.default_spec_id}),
    )
    refused_told(table, 0)  # whoever asks for an increase misses what a counter begins with
    try:
        done = lake.catalog.commit_table(table, (*requirements, *own), tuple(updates))
    except CommitFailedException:
        refused_told(table)
        return Answer(landed=False, refused=True)
    except NoSuchTableError:
        return Answer(landed=False)  # dropped meanwhile, which the next look at it says
    except REFUSALS as refused:
        raise lake.refusal(refused) from refused
    except (requests.RequestException, RESTError) as doubt:
        if says_no(doubt):
            raise lake.refusal(doubt) from doubt
        # Cut off, timed out or 5xx: it may have landed.
        return Answer(landed=False, unanswered=doubt)
    return Answer(
        landed=True, table=Table(table.name(), done.metadata, done.metadata_location, table.io, table.catalog)
    )


def _judge_one_by_one(producer: Any) -> None:
    """Have a producer of PyIceberg's judge each manifest by an evaluator of its own.

    Its threads share one that keeps the manifest that it looks at: now and then one is judged by the bounds of another,
    and a file that is to be removed is not found.
    """
    made = producer._build_manifest_evaluator  # noqa: SLF001

    def judging(spec_id: int) -> Callable[[ManifestFile], bool]:
        return lambda manifest: made(spec_id)(manifest)  # noqa: PLW0108 - made anew each time, which is the point

    producer._build_manifest_evaluator = judging  # noqa: SLF001


def property_updates(changes: Mapping[str, str | None]) -> Iterator[TableUpdate]:
    """What makes properties of a table so; those that are None go."""
    if gone := [name for name, value in changes.items() if value is None]:
        yield RemovePropertiesUpdate(removals=gone)
    if kept := {name: value for name, value in changes.items() if value is not None}:
        yield SetPropertiesUpdate(updates=kept)


class Attempt:
    """One try to commit: updates for one head, of which at most one snapshot is made.

    It cannot be sent twice, nor to another head: that is another try.
    """

    def __init__(self, table: Table) -> None:
        self.snapshot_id: int | None = None
        """Of the snapshot that it makes; known before it is sent."""
        self.unanswered: Exception | None = None
        """What came instead of an answer; None when there was one."""
        self.after: Table | None = None
        """The table with its snapshot, as the catalog answered."""
        self._table = table
        self._transaction = Transaction(table)
        self._asserted: Sequence[TableRequirement] = ()
        self._refused = False
        self._clean: Callable[[], None] | None = None

    @property
    def metadata(self) -> TableMetadata:
        """The table's metadata once what was staged so far has landed."""
        return self._transaction.table_metadata

    def change(self, updates: Iterable[TableUpdate], asserted: Sequence[TableRequirement] = ()) -> None:
        """Stage updates of the metadata, such as of the schema."""
        self._transaction._apply(tuple(updates))  # noqa: SLF001 - committing is what this file is for
        self._asserted = (*self._asserted, *asserted)

    def change_properties(self, changes: Mapping[str, str | None]) -> None:
        """Stage table properties; those that are None go."""
        if changes:
            self.change(property_updates(changes))

    def snapshot(
        self, summary: Mapping[str, str], add: Iterable[DataFile] = (), remove: Sequence[DataFile] = ()
    ) -> None:
        """Stage a snapshot that follows the head, and write its manifests."""
        update = self._transaction.update_snapshot(snapshot_properties=dict(summary))
        producer = update.overwrite() if remove else update.merge_append()
        _judge_one_by_one(producer)
        self.snapshot_id, self._clean = producer.snapshot_id, producer._clean_all_uncommitted  # noqa: SLF001
        for file in add:
            producer.append_data_file(file)
        for file in remove:
            producer.delete_data_file(file)
        producer.commit()

    def follow(self, snapshot: Snapshot, tag: str | None, clean: Callable[[], None]) -> None:
        """Stage a snapshot whose manifests are written already, as the head and under a tag; `clean` deletes them."""
        head = {"ref": MAIN_BRANCH, "snapshot-id": self._table.metadata.current_snapshot_id}
        updates: list[TableUpdate] = [AddSnapshotUpdate(snapshot=snapshot)]
        for name, kind in ((MAIN_BRANCH, SnapshotRefType.BRANCH), (tag, SnapshotRefType.TAG)):
            if name is None:
                continue
            named = {"ref-name": name, "type": kind, "snapshot-id": snapshot.snapshot_id}
            updates.append(SetSnapshotRefUpdate.model_validate(named))
        self.change(updates, [AssertRefSnapshotId.model_validate(head)])
        self.snapshot_id, self._clean = snapshot.snapshot_id, clean

    def send(self, lake: Lake) -> bool:
        """Send what was staged; False when it is known or suspected not to have landed, so the head must be asked."""
        staged = self._transaction
        answer = send(lake, self._table, staged._updates, (*staged._requirements, *self._asserted))  # noqa: SLF001
        self._refused, self.unanswered, self.after = answer.refused, answer.unanswered, answer.table
        return answer.landed

    def is_in(self, table: Table) -> bool:
        """Whether the table holds this try's snapshot."""
        return self.snapshot_id is not None and table.snapshot_by_id(self.snapshot_id) is not None

    def clean_if_refused(self) -> None:
        """Delete the manifests of a try that was refused; call it once a newer head is seen not to hold them.

        A try whose outcome is unknown keeps its files: it may land at any time.
        """
        if self._refused and self._clean is not None:
            self._clean()
            self._refused = False


A = TypeVar("A", bound=Attempt)


def landed_in(table: Table, sent: Iterable[A]) -> A | None:
    """Which of the tries the table holds; the manifests of those that were refused are deleted."""
    landed: A | None = None
    for attempt in sent:
        if attempt.is_in(table):
            landed = landed or attempt
        else:
            attempt.clean_if_refused()
    return landed


def given_up(lake: Lake, identifier: str, last: Attempt, way_out: str) -> Fault:
    """What to raise when no try landed."""
    if last.unanswered is not None:
        return lake.unavailable(f"table {identifier}: none of {TRIES} commits landed", last.unanswered)
    return CommitConflict(f"table {identifier}: {TRIES} commits in a row lost against other writers; {way_out}")
