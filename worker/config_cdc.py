"""The shape of `cdc` in environments.yaml: pipelines from PostgreSQL to changelog tables."""

from typing import Literal

from pydantic import Field, SecretStr

from worker.config_fields import Count, Name, Part, Port, Positive, Text
from worker.config_secrets import HeldSecret
from worker.config_tls import ClientTls


class Postgres(Part):
    """One PostgreSQL database."""

    host: Text
    port: Port = 5432
    database: Text
    user: Text
    password: HeldSecret = Field(default=SecretStr(""), alias="password_env")
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    tls: ClientTls = ClientTls()
    """Certificates; `sslmode` says whether the server's is looked at."""


class CaptureSource(Postgres):
    """The database whose log is read."""

    slot: Name | None = None
    """The replication slot; by default `icefleet_<environment>_<pipeline>`."""
    publication: Name | None = None
    """By default named as the slot."""
    warn_retained_wal_bytes: Positive = 5 * 2**30
    """From here on what the slot holds back on the source's disk is a finding."""
    max_retained_wal_bytes: Positive = 50 * 2**30
    """Here the slot is given up, so that the source's disk does not fill: the tables must be copied again then."""

    def slot_of(self, environment: str, pipeline: str) -> str:
        """What the slot is called."""
        return self.slot or f"icefleet_{environment}_{pipeline}".replace("-", "_").lower()


class Buffer(Postgres):
    """The database that holds the events between capture and ingest."""

    schema_: Name = Field(default="icefleet_cdc", alias="schema")
    """The PostgreSQL schema of the buffer's tables; one for each pipeline."""
    max_events: Positive = 5_000_000
    max_bytes: Positive = 10 * 2**30
    """Capture waits while the buffer holds so much of tables that go on."""
    max_stopped_events: Positive = 5_000_000
    max_stopped_bytes: Positive = 10 * 2**30
    """What it may hold besides of tables that are stopped: beyond it their events are let go, and they copied anew."""
    max_dead_letters: Positive = 1_000_000
    """So many events of one table may wait as dead letters, or behind them; one that has more is stopped."""


class SystemColumnNames(Part):
    """What the columns are called that every changelog has before those of its source."""

    operation: Text = "cdc_operation"
    sequence: Text = "cdc_sequence_number"
    lsn: Text = "cdc_lsn"
    timestamp: Text = "cdc_timestamp"
    unchanged: Text = "cdc_unchanged"


class Pipeline(Part):
    """One way from PostgreSQL to changelogs."""

    source: CaptureSource | None = None
    """Nothing: producers of your own fill the buffer."""
    buffer: Buffer
    namespace: Name = "cdc"
    name: Text = "{schema}_{table}_changelog"
    """How a changelog is called; `{schema}` and `{table}` are those of the source."""
    system_columns: SystemColumnNames = SystemColumnNames()
    out_of_range: Literal["refuse", "null", "clamp"] = "refuse"
    batch_events: Positive = 200_000
    batch_bytes: Positive = 64 * 2**20
    """A batch ends before the transaction with which it would have more events, or bytes as the buffer stores them."""
    parallel_tables: Positive = 4
    """Tables of a batch that are written at once."""
    commit_interval_ms: Count = 1000
    """A batch that is not full begins no sooner than so long after the last one: each makes snapshots."""
    keep_settled_letters_days: Positive = 30
    """How long dead letters are kept that were requeued or dropped."""
    keep_snapshots: Positive = 20
    """The newest so many snapshots of a changelog stay, whatever their age."""
    snapshot_age_seconds: Count = 600
    """And those that were its state more recently than that; a tag holds others for readers that need longer."""
    grace_seconds: Count = 3600
    """What no snapshot names any more is deleted so long after upkeep has seen that: a reader may be with it."""
