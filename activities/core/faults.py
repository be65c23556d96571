"""Every way in which a job can fail: a closed tree.

Each class says who must act (`actor`) and whether trying again can help (`retryable`). The core, the lake and the
clients raise these and nothing else; `activities.errors` is the one place that turns them into Temporal failures, and
names whatever else comes up a `Bug`. docs/errors.md says what to do about each.

    Fault
    ├── BadRequest            user      a workflow input or command names something that cannot be
    ├── BadConfig             operator  config and reality disagree: no such column, cluster, bucket
    ├── PrivacyUndecided      operator  a column looks sensitive and nobody said what to do with it
    ├── UnsupportedType       operator  a column's type has no lossless way into Iceberg
    ├── SchemaConflict        operator  source and Iceberg table cannot be reconciled
    ├── SchemaMoved           nobody    the source's columns changed after the plan was made
    ├── SourceRefused         operator  ClickHouse says no: password, rights, unknown table
    ├── SourceUnavailable     operator  ClickHouse cannot be reached, or fails by itself       retryable
    ├── SourceBusy            operator  ClickHouse takes no more queries just now              retryable
    ├── SourceMoved           nobody    rows arrived while a partition was being exported      retryable
    ├── ResultIncomplete      us        a stream ended early, or holds other rows than counted retryable
    ├── StoreRefused          operator  the object store says no: bucket, rights
    ├── StoreUnavailable      operator  the object store cannot be reached                     retryable
    ├── ObjectRefused         us        an object is not the Parquet file that was promised
    ├── CatalogRefused        operator  the catalog says no: rights, warehouse
    ├── CatalogUnavailable    operator  the catalog cannot be reached                          retryable
    ├── CommitConflict        nobody    other writers won every try                            retryable
    ├── BusRefused            operator  a message is too large for NATS, or not one of ours
    ├── BusUnavailable        operator  NATS cannot be reached, or lost the race               retryable
    ├── TemporalUnavailable   operator  Temporal does not answer an activity                   retryable
    ├── DiskFull              operator  a worker has no room left on its own disk              retryable
    ├── PostgresRefused       operator  PostgreSQL says no: login, rights, settings, names
    ├── PostgresUnavailable   operator  PostgreSQL cannot be reached, or fails by itself       retryable
    ├── LockTaken             nobody    another worker holds the pipeline just now             retryable
    ├── SlotLost              operator  the replication slot is gone, and changes with it
    ├── ChangelogForeign      operator  a changelog is not as its pipeline left it
    ├── ChangeInvalid         operator  a change in a changelog cannot be merged as it is
    ├── WatermarkLost         operator  what a mirror has not merged yet cannot be told any more
    └── MirrorForeign         operator  a mirror is not as its merges left it
"""

from typing import ClassVar, Literal

Actor = Literal["user", "operator", "us", "nobody"]


class Fault(Exception):  # noqa: N818 - faults are named for what is wrong
    """A failure with a message that names the table, partition or field, what is wrong, and the way out."""

    actor: ClassVar[Actor] = "us"
    retryable: ClassVar[bool] = False


class BadRequest(Fault):
    """A workflow input or a command asks for something that cannot be."""

    actor = "user"


class BadConfig(Fault):
    """Configuration and the world disagree."""

    actor = "operator"


class PrivacyUndecided(Fault):
    """A column looks sensitive and config neither redacts nor allows it."""

    actor = "operator"


class UnsupportedType(Fault):
    """A source type that cannot be carried into Iceberg without loss."""

    actor = "operator"


class SchemaConflict(Fault):
    """The source's columns and the Iceberg table's cannot be reconciled."""

    actor = "operator"


class SchemaMoved(Fault):
    """The source's columns changed after the plan was made: trying again cannot help, a new plan can."""

    actor = "nobody"


class SourceRefused(Fault):
    """ClickHouse refused: wrong password, missing rights, unknown table."""

    actor = "operator"


class SourceUnavailable(Fault):
    """ClickHouse cannot be reached, or failed in a way that may pass."""

    actor = "operator"
    retryable = True


class SourceBusy(Fault):
    """ClickHouse turned a query away before it began: it takes no more of them just now."""

    actor = "operator"
    retryable = True


class SourceMoved(Fault):
    """Rows arrived in a partition while it was being exported."""

    actor = "nobody"
    retryable = True


class ResultIncomplete(Fault):
    """A result stream ended early, or holds another number of rows than the source counts."""

    retryable = True


class StoreRefused(Fault):
    """The object store refused: no such bucket, no right to write."""

    actor = "operator"


class StoreUnavailable(Fault):
    """The object store cannot be reached, or answers with errors."""

    actor = "operator"
    retryable = True


class ObjectRefused(Fault):
    """An object is not the Parquet file that it was promised to be."""


class CatalogRefused(Fault):
    """The catalog refused: wrong credential, no such warehouse."""

    actor = "operator"


class CatalogUnavailable(Fault):
    """The catalog cannot be reached, or answers with errors."""

    actor = "operator"
    retryable = True


class CommitConflict(Fault):
    """Other writers won every one of our bounded tries to commit."""

    actor = "nobody"
    retryable = True


class BusRefused(Fault):
    """An event cannot be published: it is too large for NATS, or the stream's last message is not one of ours."""

    actor = "operator"


class BusUnavailable(Fault):
    """NATS cannot be reached, or another announcer was faster."""

    actor = "operator"
    retryable = True


class TemporalUnavailable(Fault):
    """Temporal does not answer an activity that talks to it."""

    actor = "operator"
    retryable = True


class DiskFull(Fault):
    """A worker has no room left for what it keeps on its own disk for a while, such as indexes of mirrors."""

    actor = "operator"
    retryable = True


class PostgresRefused(Fault):
    """PostgreSQL refused: wrong password, missing rights, no logical log, unknown table."""

    actor = "operator"


class PostgresUnavailable(Fault):
    """PostgreSQL cannot be reached, or failed in a way that may pass."""

    actor = "operator"
    retryable = True


class LockTaken(Fault):
    """Another worker holds a pipeline's lock, or its replication slot."""

    actor = "nobody"
    retryable = True


class SlotLost(Fault):
    """The replication slot was dropped, invalidated or given up: what was not captured yet is lost to it."""

    actor = "operator"


class ChangelogForeign(Fault):
    """A changelog was filled by another pipeline or buffer, or was dropped, rolled back or made anew."""

    actor = "operator"


class ChangeInvalid(Fault):
    """A change in a changelog has an unknown operation, no sequence number, or lacks a value that nothing older has."""

    actor = "operator"


class WatermarkLost(Fault):
    """The changelog was made anew, rolled back, rewritten or expired so that nobody knows what is not merged yet."""

    actor = "operator"


class MirrorForeign(Fault):
    """A mirror was rolled back, made anew, or written to by somebody else in a way that merging cannot follow."""

    actor = "operator"
