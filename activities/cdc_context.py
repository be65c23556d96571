"""What the activities of capture and ingest work with: clients and config, built once by `worker.wiring`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporalio.client import Client

from activities.clients.bus import Bus
from activities.clients.objectstore import ObjectStore
from activities.core.changelogs import ChangelogRules
from activities.core.faults import BadRequest
from activities.core.names import near
from activities.lake.catalog import Lake
from activities.serving import check_environment

if TYPE_CHECKING:  # mirrors know of changelogs, and need no PostgreSQL
    from activities.clients.postgres import PostgresSettings


@dataclass(frozen=True)
class CaptureFrom:
    """The source of a pipeline."""

    database: "PostgresSettings"
    slot: str
    publication: str
    warn_retained_wal_bytes: int
    max_retained_wal_bytes: int


@dataclass(frozen=True)
class PipelineConfig:
    """One pipeline, resolved."""

    name: str
    source: CaptureFrom | None
    buffer: "PostgresSettings"
    buffer_schema: str
    buffer_max_events: int
    buffer_max_bytes: int
    rules: ChangelogRules
    batch_events: int
    batch_bytes: int
    parallel_tables: int
    buffer_max_stopped_events: int = 5_000_000
    buffer_max_stopped_bytes: int = 10 * 2**30
    """Beyond these, events of tables that are stopped are let go."""
    buffer_max_dead_letters: int = 1_000_000
    """A table of which more events wait as dead letters, or behind them, is stopped."""
    commit_interval_seconds: float = 0
    """A batch that is not full begins no sooner than so long after the last one."""
    keep_settled_letters_days: int = 30
    keep_snapshots: int = 20
    snapshot_age_seconds: float = 600
    """Older snapshots of changelogs expire, unless they are among the newest `keep_snapshots` or have a tag."""
    grace_seconds: float = 3600
    """What no snapshot of a changelog names any more is deleted so long after that became true."""

    def captured_from(self) -> CaptureFrom:
        """Its source.

        Raises:
            BadRequest: it has none.
        """
        if self.source is None:
            raise BadRequest(
                f"pipeline {self.name} has no `source` in environments.yaml: others fill its buffer, so there is "
                "nothing to capture"
            )
        return self.source


@dataclass(frozen=True)
class CdcContext:
    """One environment's pipelines, as a worker serves them."""

    environment: str
    pipelines: Mapping[str, PipelineConfig]
    store: ObjectStore
    lake: Lake
    bus: Bus
    temporal: Client
    key_prefix: str
    """What stands before every object key; usually nothing."""

    def pipeline(self, environment: str, name: str) -> PipelineConfig:
        """What config says of a pipeline.

        Raises:
            BadRequest: another environment, or a pipeline that config does not have.
        """
        check_environment(self.environment, environment)
        if name not in self.pipelines:
            raise BadRequest(
                f"no pipeline {name!r} under `cdc` of environment {environment!r}{near(name, self.pipelines)}"
            )
        return self.pipelines[name]

    def key(self, key: str) -> str:
        """An object key as the bucket has it."""
        return f"{self.key_prefix}/{key}" if self.key_prefix else key
