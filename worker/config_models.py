"""The shape of the config: what each file may hold, with its defaults."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from activities.core.tables import PartitionKind, Profile
from worker.config_files import Variables

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_ICEBERG_TYPE = re.compile(
    r"boolean|int|long|float|double|date|time|timestamp|timestamptz|string|uuid|binary"
    r"|decimal\((?:[1-9]|[12]\d|3[0-8]), ?(?:\d|[12]\d|3[0-8])\)|fixed\[[1-9]\d*\]"
)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unset(SecretStr):
    """A secret whose variable nobody has set: an empty one that knows the variable's name."""

    def __init__(self, variable: str) -> None:
        super().__init__("")
        self.variable = variable


def _wrong(message: str) -> PydanticCustomError:
    # braces would be taken for places to fill in
    return PydanticCustomError("said", "{message}", {"message": message})


def _secret(value: Any, info: ValidationInfo) -> SecretStr:
    """The secret in the variable that the file names; code hands over the secret itself."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or not _VARIABLE_NAME.fullmatch(value):
        # what was written here may be the secret itself: never repeat it
        raise _wrong("expected the name of an environment variable (letters, digits, `_`)")
    variables = info.context
    if not isinstance(variables, Variables):
        raise TypeError("a secret is looked up in the variables that are handed over as the context")
    found = variables.get(value)
    return SecretStr(found) if found else Unset(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise _wrong(f"{value!r} cannot be a name: letters, digits, `_` and `-` only, not starting with `-`")
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise _wrong(f"expected a whole number, not {str(value).lower()}")
    return value


def _day(value: Any) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(f"expected a date such as 2024-03-20, not {str(value)!r}") from None


def _lag(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(f"expected a duration such as 2h or a number of blocks, not {value!r}")
    return str(value).strip()


def _iceberg_type(value: Any) -> str:
    if not isinstance(value, str) or not _ICEBERG_TYPE.fullmatch(value):
        raise _wrong(f"{value!r} is no Iceberg type; such as long, string, decimal(20,0) or fixed[66]")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _no_login(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong("expected an address")
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise _wrong("holds a login; name a variable with one of the `*_env` keys instead")
    return value


Secret = Annotated[SecretStr, PlainValidator(_secret), PlainSerializer(str, when_used="json")]
Name = Annotated[str, PlainValidator(_name)]
Whole = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[int, BeforeValidator(_whole), Field(gt=0)]
Port = Annotated[int, BeforeValidator(_whole), Field(gt=0, lt=65536)]
Text = Annotated[str, Field(min_length=1)]
Address = Annotated[str, PlainValidator(_no_login)]
Day = Annotated[dt.date, PlainValidator(_day)]


class Part(BaseModel):
    """A part of the config: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClickHouseCluster(Part):
    """One ClickHouse cluster, over HTTP."""

    host: Text
    port: Port = 8123
    secure: bool = False
    user: Text = "default"
    password: Secret = Field(default=SecretStr(""), alias="password_env")
    database: Text = "default"
    max_execution_time: Positive = 3600
    """Seconds that one query may take."""
    max_memory_usage: Positive = 4 * 2**30
    """Bytes that one query may take on the server."""
    max_threads: Positive = 4


class Storage(Part):
    """The bucket that holds the Parquet files."""

    endpoint: Address
    bucket: Text
    region: Text = "us-east-1"
    access_key: Secret = Field(alias="access_key_env")
    secret_key: Secret = Field(alias="secret_key_env")
    public_url: str = ""
    """Where the world reads the bucket, without a final slash; empty if it does not."""
    prefix: str = ""
    """What stands before every object key, without slashes at its ends; usually nothing."""


class Catalog(Part):
    """An Iceberg REST catalog."""

    uri: Address
    warehouse: Text
    credential: Secret | None = Field(default=None, alias="credential_env")
    """`client id:client secret`, for OAuth2 client credentials."""
    token: Secret | None = Field(default=None, alias="token_env")
    oauth2_server_uri: Address | None = None
    properties: dict[str, str] = Field(default_factory=dict)
    """Further PyIceberg catalog properties, such as `scope`; secrets are refused here."""


class Nats(Part):
    """The event bus."""

    url: Address
    stream: Name = "ICEFLEET"
    replicas: Positive = 1
    user: Text | None = None
    password: Secret | None = Field(default=None, alias="password_env")
    token: Secret | None = Field(default=None, alias="token_env")
    credentials: Secret | None = Field(default=None, alias="credentials_env")
    """The text of a `.creds` file (a user JWT and its seed)."""


class Temporal(Part):
    """The Temporal service that runs the loops."""

    address: Text
    namespace: Text = "default"
    task_queue: Text = "icefleet-export"
    tls: bool = False
    api_key: Secret | None = Field(default=None, alias="api_key_env")


class ExportLimits(Part):
    """How much an export may do at once, and how long it may take."""

    parallel_partitions: Positive = 4
    partitions_per_commit: Positive = 32
    partitions_per_plan: Positive = 1000
    heartbeat_seconds: Positive = 20
    pages_per_run: Positive = 40
    """Commits of one run of a loop before it continues as new."""
    partition_attempts: Positive = 5
    commit_attempts: Positive = 10
    retry_initial_seconds: Positive = 1
    partition_timeout_seconds: Positive = 4 * 3600
    part_size_bytes: Annotated[int, BeforeValidator(_whole), Field(ge=5 * 2**20)] = 8 * 2**20
    """Bytes of one part of a multipart upload; S3 takes no parts below 5 MiB."""
    look_back_days: Positive = 7
    recheck_empty_days: Positive = 7
    max_concurrent_activities: Positive = 8


class WrittenEnvironment(Part):
    """One entry of `environments`, as the file has it."""

    clickhouse: dict[str, ClickHouseCluster] = Field(default_factory=dict)
    storage: Storage
    catalog: Catalog
    nats: Nats
    temporal: Temporal
    export: ExportLimits = ExportLimits()


class Environment(WrittenEnvironment):
    """One environment: where its data comes from and goes to. Secrets are resolved, and shown as stars."""

    name: Name


class ExportMapping(Part):
    """Where a cluster's tables go."""

    source: Text
    """`<environment>.<cluster>`."""
    destination: Name


class TableNetwork(Part):
    """One network of a table, and the range that it has."""

    name: Name
    start_date: Day | None = None
    end_date: Day | None = None
    start_index: Whole | None = None
    end_index: Whole | None = None


class TablePartition(Part):
    """How a table is cut into files."""

    column: Text
    type: PartitionKind
    chunk_size: Positive | None = None
    coarse_chunks: Positive | None = None


class WrittenTable(Part):
    """One entry of a group's `tables`, as the file has it, with the group's defaults below it."""

    name: Name
    database: Name = "default"
    networks: tuple[TableNetwork, ...]
    partition: TablePartition
    lag: Annotated[str, PlainValidator(_lag)] = "0"
    network_column: str = "meta_network_name"
    redacted_columns: tuple[Text, ...] = ()
    allowed_columns: tuple[Text, ...] = ()
    types: dict[str, Annotated[str, PlainValidator(_iceberg_type)]] = Field(default_factory=dict)
    profile: Profile = "portable"
    source: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """The clusters that it comes from; empty: from whichever feeds the destination."""


class TableEntry(WrittenTable):
    """One table of the config, whatever the environment."""

    group: Name
    lag_amount: int
    """Seconds, or values of the partition column of an integer table."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Lag:
    """A lag, in seconds or in values of the partition column; or what is wrong with its text."""

    amount: int = 0
    wrong: str = ""

    @classmethod
    def parse(cls, text: str, kind: Literal["daily", "hourly", "integer"]) -> "Lag":
        """Read `2h`, `1d12h` or, for integer tables, `64`."""
        if text.startswith("-"):
            return cls(wrong=f"must not be negative, and is {text!r}")
        if kind == "integer":
            return (
                cls(int(text)) if text.isdecimal() else cls(wrong=f"an integer table lags by blocks, not by {text!r}")
            )
        if text == "0":
            return cls()
        parts = re.findall(r"(\d+)([smhdw])", text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return cls(wrong=f"expected a duration such as 2h, 90m or 1d12h, not {text!r}")
        return cls(sum(int(number) * _UNITS[unit] for number, unit in parts))
