"""The seam of change data capture: PostgreSQL's log to a buffer, and the buffer to changelog tables.

A *pipeline* is one buffer with whoever fills it. Rows never cross Temporal: what crosses is names, positions, counts.
"""

from dataclasses import dataclass, field
from typing import Any

from temporalio import activity

from activities.contracts.inputs import bad_request

CDC_TASK_QUEUE = "icefleet-cdc"
"""Where captures and ingests wait for workers: they hold their slots for long, and must not keep exports waiting."""

CAPTURE_WORKFLOW = "CaptureChanges"
INGEST_WORKFLOW = "IngestChangelog"
INSTALL_WORKFLOW = "InstallCapture"
UNINSTALL_WORKFLOW = "UninstallCapture"
COPY_WORKFLOW = "CopyTable"
LETTERS_WORKFLOW = "SettleLetters"
KEEP_WORKFLOW = "MaintainChangelog"

CAPTURE = "capture"
INGEST = "ingest"
"""The loops of a pipeline."""

PAUSE_SIGNAL = "pause"
RESUME_SIGNAL = "resume"
STOP_SIGNAL = "stop"
LETTERS_SIGNAL = "letters"
LETTERS_ANSWER_SIGNAL = "letters-answer"
COPIED_SIGNAL = "copied"
KEEP_SIGNAL = "keep"
KEPT_SIGNAL = "kept"


def capture_id(environment: str, pipeline: str) -> str:
    """The one workflow id under which a pipeline's capture may run."""
    return f"cdc/capture/{environment}/{pipeline}"


def ingest_id(environment: str, pipeline: str) -> str:
    """The one workflow id under which a pipeline's ingest may run."""
    return f"cdc/ingest/{environment}/{pipeline}"


def copy_id(environment: str, pipeline: str, table: str) -> str:
    """The one workflow id under which a table's first copy may run."""
    return f"cdc/copy/{environment}/{pipeline}/{table}"


LOOPS = {CAPTURE: (CAPTURE_WORKFLOW, capture_id), INGEST: (INGEST_WORKFLOW, ingest_id)}
"""Loop → its workflow, and what its id is made by."""


@dataclass(frozen=True)
class PipelineRequest:
    """What a loop is started with, and what a person may start one with."""

    pipeline: str
    environment: str = "local"
    turns_per_run: int = 200
    """Batches, or turns of capturing, after which the loop continues as new."""
    carried: dict[str, Any] | None = None
    """What a long run hands to its successor; leave it out."""


@dataclass(frozen=True)
class InstallRequest:
    """Set up what capturing needs, and have the tables copied and followed."""

    pipeline: str
    tables: list[str] = field(default_factory=list)
    """`schema.table`, or `table` in `public`; empty: only the buffer, for producers of your own."""
    environment: str = "local"
    full_identity: bool = False
    """Log whole old rows also of tables that have a key (REPLICA IDENTITY FULL)."""
    again: bool = False
    """Copy tables anew that are followed already, such as after the slot was lost."""


@dataclass(frozen=True)
class UninstallRequest:
    """Remove slot, publication and trigger from the source; changelog tables stay."""

    pipeline: str
    environment: str = "local"
    drop_buffer: bool = False
    """Also drop the buffer, with whatever was not ingested."""


@dataclass(frozen=True)
class InstalledTable:
    """What was set up for one table."""

    table: str
    changelog: str
    key_columns: list[str]
    identity: str
    """`default`, `index`, `full` or `nothing`: what PostgreSQL logs of old rows."""
    state: str
    """`copying` when it waits for its first copy, else `active` or `stopped`."""
    note: str = ""


@dataclass
class InstallReport:
    """What was set up."""

    status: str = "installed"
    message: str = ""
    slot: str = ""
    publication: str = ""
    schema_events: str = ""
    """`trigger` when DDL is logged with identities of columns, `relations` when only names are known."""
    tables: list[InstalledTable] = field(default_factory=list)


@dataclass
class UninstallReport:
    """What was removed."""

    status: str = "uninstalled"
    message: str = ""
    removed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CaptureInput:
    """Follow the source's log for a while."""

    environment: str
    pipeline: str
    seconds: float
    """How long at most; then the activity answers, and the loop begins the next one."""


@dataclass(frozen=True)
class CaptureReport:
    """What one turn of capturing did."""

    events: int
    transactions: int
    captured_lsn: str
    """The source position up to which everything is in the buffer."""
    retained_wal_bytes: int
    waiting_for: str = ""
    """What held it up at the end, such as a full buffer; empty when nothing did."""
    ended: str = ""
    """Why nothing can be captured any more (the slot was given up or lost); empty while it goes on."""


@dataclass(frozen=True)
class IngestInput:
    """Carry a batch from the buffer into the changelogs, and more if more waits; wait for events if there are none."""

    environment: str
    pipeline: str
    wait_seconds: float
    known_copies: list[str] = field(default_factory=list)
    """Tables of which the loop knows that they wait for their first copy; it is told of others at once."""
    at_once: bool = False
    """Not to rest since the last batch, which left more."""


@dataclass(frozen=True)
class TableBatch:
    """What the batches of a turn did to one table."""

    table: str
    changelog: str
    events: int
    snapshot_id: str = ""
    """Empty when there was nothing to commit."""
    already_there: int = 0
    """Events that a commit whose answer was lost had brought."""
    dead_letters: int = 0
    failed: str = ""
    """Cause and message, when this table could not go on; the others did."""
    stopped: bool = False
    """Whether it stays stopped until a person resumes it."""


@dataclass(frozen=True)
class IngestReport:
    """What the batches of a turn did."""

    tables: list[TableBatch]
    """At most a hundred of them, those that failed first."""
    events: int
    bytes: int
    epoch: int
    more: bool
    """Whether the buffer held more when the last batch was taken."""
    to_copy: list[str] = field(default_factory=list)
    """Tables that wait for their first copy."""
    last_lsn: str = ""
    unlisted: list[str] = field(default_factory=list)
    """Changelogs with something new of tables that are not listed."""
    tried_before: bool = False
    """Whether an attempt before this one may have brought something that nobody told of."""


@dataclass(frozen=True)
class CopyInput:
    """Copy one table as it is at one position of the log."""

    environment: str
    pipeline: str
    table: str


@dataclass(frozen=True)
class CopyReport:
    """What became of a first copy."""

    table: str
    changelog: str
    rows: int
    bytes: int
    copied_lsn: str
    snapshot_id: str
    failed: str = ""
    """Cause and message when the table was stopped instead."""


@dataclass(frozen=True)
class ChangelogsInput:
    """Announce what is new in some changelogs of a pipeline."""

    environment: str
    pipeline: str
    changelogs: list[str]
    """Iceberg identifiers; empty: every changelog of the pipeline."""


@dataclass(frozen=True)
class ChangelogsReport:
    """How many snapshots were announced."""

    announced: int


@dataclass(frozen=True)
class LettersRequest:
    """What a person decided about dead letters, or about a table that is stopped."""

    pipeline: str
    action: str
    """`requeue`, `drop`, or `resume-table`."""
    table: str = ""
    """`schema.table`; empty with `letters`: whatever table they belong to."""
    letters: list[int] = field(default_factory=list)
    """Event ids; empty: every one of the table."""
    reason: str = ""
    """Why they are dropped; required for that."""
    environment: str = "local"
    id: str = ""
    """Made by whoever sends it, so that the answer finds its way."""
    answer_to: str = ""
    """The workflow that waits for the answer; empty: nobody does."""


@dataclass(frozen=True)
class LettersReport:
    """What was done."""

    status: str
    """`done` or `failed`."""
    message: str
    changed: int = 0
    released: int = 0
    """Events that had waited behind them and go on now."""
    cause: str = ""
    """Of an order that failed: the name of the fault."""
    who: str = ""
    """Who must act then: `user`, `operator`, `us` or `nobody`."""


@dataclass(frozen=True)
class KeepRequest:
    """Have a changelog kept in order: what a person may ask for, and what its pipeline's ingest is told."""

    pipeline: str
    changelog: str
    """Its Iceberg identifier."""
    environment: str = "local"
    dry_run: bool = False
    id: str = ""
    """Made by whoever sends it, so that the answer finds its way."""
    answer_to: str = ""
    """The workflow that waits for the answer; empty: nobody does."""


KEEP_STEPS = ("delete", "compact", "manifests", "expire", "note")
"""What is done to a changelog, in this order: what was noted is deleted when it is old enough, small files and small
manifests are put together, snapshots expire, and what nothing names any more is noted."""


@dataclass(frozen=True)
class KeepInput:
    """One step for one changelog, or one turn of it."""

    environment: str
    pipeline: str
    changelog: str
    step: str
    dry_run: bool = False


@dataclass(frozen=True)
class KeepPage:
    """What one turn did; the counts are those of `UpkeepReport`."""

    expired: int = 0
    retained: int = 0
    deleted: int = 0
    freed: int = 0
    manifests: int = 0
    compacted: int = 0
    noted: int = 0
    """Objects that nothing names any more, and that go once nobody can be reading them."""
    more: bool = False
    """Whether the step has another turn."""
    snapshot: bool = False
    """Whether the changelog has another snapshot now, which is to be announced."""
    problem: str = ""


LETTER_ACTIONS = ("requeue", "drop", "resume-table")


def check_letters(request: LettersRequest) -> None:
    """Refuse an order that cannot be, whatever the buffer holds.

    Raises:
        ApplicationError: `BadRequest`, naming the field and the way out.
    """
    if request.action not in LETTER_ACTIONS:
        raise bad_request(f"field 'action' must be one of {', '.join(LETTER_ACTIONS)}; it is {request.action!r}")
    if request.action == "drop" and not request.reason.strip():
        raise bad_request("field 'reason' is missing: say why the dead letters are dropped; it is kept beside them")
    if request.action == "resume-table" and not request.table:
        raise bad_request("field 'table' is missing: name the table that is to go on, as schema.table")
    if not request.table and not request.letters:
        raise bad_request("name a table in field 'table', event ids in field 'letters', or both")


@dataclass(frozen=True)
class LoopSignal:
    """A signal to one of a pipeline's loops, which is started if it does not run."""

    environment: str
    pipeline: str
    loop: str
    """`capture` or `ingest`."""
    signal: str
    payload: dict[str, Any] | None = None
    """What the signal carries; null: nothing."""


@dataclass(frozen=True)
class StopInput:
    """Have loops of a pipeline end, and wait until they have."""

    environment: str
    pipeline: str
    loops: list[str]


class CdcActivities:
    """The activities of capture and ingest, as workflows call them; `activities.cdc.Cdc` implements them."""

    @activity.defn(name="install_capture")
    async def install_capture(self, request: InstallRequest) -> InstallReport:
        """Set up buffer, publication, replica identities, DDL trigger and slot; everything that is there stays."""
        raise NotImplementedError

    @activity.defn(name="uninstall_capture")
    async def uninstall_capture(self, request: UninstallRequest) -> UninstallReport:
        """Remove what `install_capture` made at the source, and the buffer if asked."""
        raise NotImplementedError

    @activity.defn(name="capture_changes")
    async def capture_changes(self, capture: CaptureInput) -> CaptureReport:
        """Bring committed transactions of the source into the buffer, in order, each once."""
        raise NotImplementedError

    @activity.defn(name="watch_slot")
    async def watch_slot(self, capture: CaptureInput) -> CaptureReport:
        """Look once at a slot that nobody reads from: warn when it holds back much, and give it up at the limit."""
        raise NotImplementedError

    @activity.defn(name="ingest_batch")
    async def ingest_batch(self, ingest: IngestInput) -> IngestReport:
        """Bring a batch of the buffer, or some, into its changelogs, each event once."""
        raise NotImplementedError

    @activity.defn(name="copy_table")
    async def copy_table(self, copy: CopyInput) -> CopyReport:
        """Bring a table's rows, as they are at one position of the log, into its changelog in one snapshot."""
        raise NotImplementedError

    @activity.defn(name="announce_changelogs")
    async def announce_changelogs(self, asked: ChangelogsInput) -> ChangelogsReport:
        """Publish every snapshot of these changelogs that the stream has not heard of, and let old ones expire."""
        raise NotImplementedError

    @activity.defn(name="settle_letters")
    async def settle_letters(self, request: LettersRequest) -> LettersReport:
        """Requeue or drop dead letters, or let a stopped table go on."""
        raise NotImplementedError

    @activity.defn(name="keep_changelog")
    async def keep_changelog(self, asked: KeepInput) -> KeepPage:
        """Do one step of a changelog's upkeep, or a turn of it; only the pipeline's ingest may ask, between batches."""
        raise NotImplementedError

    @activity.defn(name="signal_loop")
    async def signal_loop(self, asked: LoopSignal) -> str:
        """Signal one of a pipeline's loops, with start; answers its workflow id."""
        raise NotImplementedError

    @activity.defn(name="stop_loops")
    async def stop_loops(self, asked: StopInput) -> list[str]:
        """End loops of a pipeline, and copies with the ingest, and wait for their end; answers the ids of loops."""
        raise NotImplementedError
