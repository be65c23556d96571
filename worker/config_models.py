"""The shape of environments.yaml: where data comes from, where it goes, and who serves it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from worker.config_cdc import Pipeline
from worker.config_fields import Address, Count, Name, Part, Port, Positive, PublicUrl, Text, whole
from worker.config_mirrors import MergeLimits, Mirror
from worker.config_secrets import HeldSecret
from worker.config_tables import TableOverride
from worker.config_tls import Authorities, Tls, TlsOrNot


class ClickHouseCluster(Part):
    """One ClickHouse cluster, over HTTP."""

    host: Text
    port: Port = 8123
    secure: bool = False
    tls: Tls | None = None
    """Certificates, where the system's authorities are not enough; only with `secure`."""
    user: Text = "default"
    password: HeldSecret = Field(default=SecretStr(""), alias="password_env")
    database: Text = "default"
    max_execution_time: Positive = 3600
    """Seconds that one query may take."""
    max_memory_usage: Positive = 4 * 2**30
    """Bytes that one query may take on the server."""
    max_threads: Positive = 4
    max_rows_to_read: Count = 0
    """Rows that one query may read, also one that only plans; 0: as the user's profile says."""
    max_bytes_to_read: Count = 0
    """Bytes that one query may read, uncompressed; 0: as the user's profile says."""
    export_slots: Positive = 4
    """Results that one worker streams from this cluster at once."""
    lookup_slots: Positive = 4
    """Connections of one worker beside those: for plans, counts, progress, and ends of queries."""
    max_concurrent_queries: Count = 0
    """Queries that the whole fleet may run here at once, as its administrators granted; 0: they did not say."""

    @property
    def connections(self) -> int:
        """The most queries that one worker can have here at once."""
        return self.export_slots + self.lookup_slots


class Storage(Part):
    """The bucket that holds the Parquet files."""

    endpoint: Address
    bucket: Text
    region: Text = "us-east-1"
    access_key: HeldSecret | None = Field(default=None, alias="access_key_env")
    """Without keys those of the role count that the worker has: by web identity, of its pod or its machine."""
    secret_key: HeldSecret | None = Field(default=None, alias="secret_key_env")
    session_token: HeldSecret | None = Field(default=None, alias="session_token_env")
    """That of keys which somebody else renews, usually in files."""
    tls: Authorities = Authorities()
    public_url: PublicUrl = ""
    """Where the world reads the bucket, and a copy of each table's metadata in it; empty if it does not."""
    purge_url: Address | None = None
    """Where the cache in front of `public_url` hears of changed objects: POST of `{"files": [URL, …]}`."""
    purge_token: HeldSecret | None = Field(default=None, alias="purge_token_env")
    """The bearer token of those requests."""
    prefix: str = ""
    """What stands before every object key, without slashes at its ends; usually nothing."""
    named_collection: Name | None = None
    """Under which name ClickHouse clusters know this bucket, with keys of their own; for `export.transfer: direct`."""


class Catalog(Part):
    """An Iceberg REST catalog."""

    uri: Address
    warehouse: Text
    credential: HeldSecret | None = Field(default=None, alias="credential_env")
    """`client id:client secret`, for OAuth2 client credentials."""
    token: HeldSecret | None = Field(default=None, alias="token_env")
    """A bearer token; one in a file may be replaced at any time."""
    oauth2_server_uri: Address | None = None
    tls: Authorities = Authorities()
    """Also those of `oauth2_server_uri`."""
    properties: dict[str, str] = Field(default_factory=dict)
    """Further PyIceberg catalog properties, such as `scope`; secrets are refused here."""


class Nats(Part):
    """The event bus."""

    url: Address
    stream: Name = "ICEFLEET"
    replicas: Positive = 1
    inbox_prefix: Name = "_INBOX"
    """What answers come to: with one for each role, none hears what another is told."""
    user: Text | None = None
    password: HeldSecret | None = Field(default=None, alias="password_env")
    token: HeldSecret | None = Field(default=None, alias="token_env")
    credentials: HeldSecret | None = Field(default=None, alias="credentials_env")
    """The text of a `.creds` file (a user JWT and its seed)."""
    nkey: HeldSecret | None = Field(default=None, alias="nkey_env")
    """The seed of a user's nkey, `SU…`."""
    tls: Tls | None = None
    """Certificates, where the system's authorities are not enough; only with a `tls://` address."""


class Temporal(Part):
    """The Temporal service that runs the loops."""

    address: Text
    namespace: Text = "default"
    task_queue: Text = "icefleet-export"
    cdc_task_queue: Text = "icefleet-cdc"
    """Where the loops of `cdc` pipelines wait for workers."""
    merge_task_queue: Text = "icefleet-merge"
    """Where the loops of mirrors do."""
    upkeep_task_queue: Text = "icefleet-upkeep"
    """Where upkeep waits; verifications do in `<this>-verify`, what reads whole mirrors in `<this>-mirrors`."""
    tls: TlsOrNot = None
    """`true`, or the certificates by which the two know each other."""
    api_key: HeldSecret | None = Field(default=None, alias="api_key_env")


class ExportLimits(Part):
    """How much an export may do at once, and how long it may take."""

    transfer: Literal["stream", "direct"] = "stream"
    """Whether files pass through the worker, or ClickHouse writes them itself."""
    parallel_partitions: Positive = 4
    partitions_per_commit: Positive = 256
    """The most partitions of a page: they are exported, and become one snapshot, before the loop looks up again."""
    rows_per_commit: Positive = 100_000_000
    """A page ends sooner with the partition that reaches so many rows."""
    partitions_per_plan: Positive = 1000
    heartbeat_seconds: Positive = 20
    pages_per_run: Positive = 40
    """Commits of one run of a loop before it continues as new."""
    partition_attempts: Positive = 5
    commit_attempts: Positive = 10
    retry_initial_seconds: Positive = 1
    partition_timeout_seconds: Positive = 4 * 3600
    part_size_bytes: Annotated[int, BeforeValidator(whole), Field(ge=5 * 2**20)] = 8 * 2**20
    """Bytes of one part of a multipart upload; S3 takes no parts below 5 MiB."""
    look_back_days: Positive = 7
    recheck_empty_days: Positive = 7
    suspend_after: Count = 3
    """Failures in a row after which a partition is left out of what is due: a day, doubling up to seven; 0: never."""
    max_concurrent_activities: Positive = 8
    """Exports and plans of each source cluster that one worker has under way at once."""
    small_partition_rows: Positive = 10_000
    """Partitions of at most this many rows may share an activity, and with it every question but the export itself."""
    partitions_per_activity: Positive = 16
    rows_per_query: Count = 20_000
    """Rows that partitions of one activity may have together to be read with one query; 0: each has its own."""
    max_workers: Positive = 4
    """The most workers that are ever started for this environment: what the load on its sources is reckoned with."""
    orphan_age_seconds: Positive | None = None
    """The least age of an orphan that may be deleted; by default the longest that an attempt to export and one to
    commit may take. With less, work that a retry would have found is done again."""
    keep_snapshots: Positive = 20
    """Upkeep lets the newest so many snapshots of a table stay, whatever their age."""
    snapshot_age_seconds: Count = 7 * 24 * 3600
    """Upkeep lets a snapshot stay that was the table's state more recently than that: who began to read it may end."""
    grace_seconds: Count = 3600
    """Upkeep deletes what only expired snapshots named so long after they have expired."""


class ControlLimits(Part):
    """How much one worker does at once of what is short: commits, announcements, requests."""

    max_concurrent_activities: Positive = 16


class UpkeepLimits(Part):
    """How much one worker does at once in each of the queues of upkeep: pages of it, verifications, whole mirrors."""

    max_concurrent_activities: Positive = 4


class WrittenEnvironment(Part):
    """One entry of `environments`, as the file has it."""

    clickhouse: dict[str, ClickHouseCluster] = Field(default_factory=dict)
    storage: Storage
    catalog: Catalog
    nats: Nats
    temporal: Temporal
    control: ControlLimits = ControlLimits()
    export: ExportLimits = ExportLimits()
    merge: MergeLimits = MergeLimits()
    upkeep: UpkeepLimits = UpkeepLimits()
    cdc: dict[str, Pipeline] = Field(default_factory=dict)
    """Pipelines that carry changes of PostgreSQL tables into changelogs, by name."""
    tables: dict[str, TableOverride] = Field(default_factory=dict)


class Environment(WrittenEnvironment):
    """One environment: where its data comes from and goes to. Secrets are resolved, and shown as stars."""

    name: Name
    mirrors: dict[str, Mirror] = Field(default_factory=dict)
    """Of mirrors.yaml, by Iceberg identifier."""


class ExportMapping(Part):
    """Where a cluster's tables go."""

    source: Text
    """`<environment>.<cluster>`."""
    destination: Name
