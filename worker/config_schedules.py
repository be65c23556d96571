"""The shape of schedules.yaml: when each table's exports run, and what else runs by the clock."""

import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from activities.core.cron import parse_cron
from activities.core.faults import BadConfig
from activities.core.names import near
from activities.core.tables import PartitionKind
from worker.config_checks import bad_name
from worker.config_fields import Count, Name, Part, Text, duration_seconds
from worker.config_files import Node, Problem

SHORTEST_CATCHUP = 10
"""Temporal looks at least so many seconds back for what it has missed."""

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
Per = Literal["once", "table", "network"]


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("said", "{message}", {"message": message})


def _cron(value: Any) -> str:
    try:
        parse_cron(value if isinstance(value, str) else str(value))
    except BadConfig as wrong:
        raise _wrong(str(wrong)) from None
    return str(value)


def _time_zone(value: Any) -> str:
    try:
        if value != "UTC":  # which needs no database of zones
            zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        hint = near(value, zoneinfo.available_timezones()) if isinstance(value, str) else ""
        raise _wrong(f"{value!r} is no time zone{hint or '; such as UTC or Europe/Berlin'}") from None
    return str(value)


def _catchup(value: Any) -> int:
    seconds = duration_seconds(value)
    if seconds < SHORTEST_CATCHUP:
        raise _wrong(f"must be at least {SHORTEST_CATCHUP}s, and is {value!r}")
    return seconds


CronText = Annotated[str, PlainValidator(_cron), PlainSerializer(str, when_used="json")]
TimeZone = Annotated[str, PlainValidator(_time_zone), PlainSerializer(str, when_used="json")]
Seconds = Annotated[int, PlainValidator(duration_seconds)]
CatchupSeconds = Annotated[int, PlainValidator(_catchup)]


class Timing(Part):
    """When something runs. What is not said is as a less particular place says, at last as `BUILT_IN` does."""

    cron: CronText | None = None
    time_zone: TimeZone | None = None
    jitter: Seconds | None = None
    """Seconds by which a run may start later, at random."""
    catchup_window: CatchupSeconds | None = None
    """Seconds for which a run that Temporal itself missed is made up for."""
    overlap: Overlap | None = None
    note: str | None = None
    paused: bool | None = None
    enabled: bool | None = None


class TableTiming(Timing):
    """When a table's exports run."""

    max_partitions: Count | None = None
    """The most partitions that a run exports of each network; 0: no bound."""


class Kinds(Part):
    """What is said of all tables that are cut alike."""

    daily: TableTiming = TableTiming()
    hourly: TableTiming = TableTiming()
    integer: TableTiming = TableTiming()


class Levels(Part):
    """The places that may say something of a table's schedule, from the least to the most particular."""

    defaults: TableTiming = TableTiming()
    kinds: Kinds = Kinds()
    groups: dict[str, TableTiming] = Field(default_factory=dict)
    tables: dict[str, TableTiming] = Field(default_factory=dict)

    def of(self, name: str, group: str, kind: PartitionKind) -> Iterator[TableTiming]:
        """What is said of one table, the most particular last."""
        nothing = TableTiming()
        yield self.defaults
        yield getattr(self.kinds, kind)
        yield self.groups.get(group, nothing)
        yield self.tables.get(name, nothing)


class OtherSchedule(Timing):
    """A schedule of another workflow of ours: once, or for every table, or for every network of every table."""

    workflow: Text
    per: Per = "once"
    tables: tuple[Text, ...] = ("*",)
    """Globs: the tables that it is for, unless it runs `once`."""
    input: dict[str, Any] = Field(default_factory=dict)
    """What the workflow is started with, beside the environment, table and network that are filled in."""
    environments: tuple[Name, ...] = ()
    """Empty: all."""


class Schedules(Levels):
    """The whole of schedules.yaml. What an environment says goes over all that is said for every environment."""

    environments: dict[str, Levels] = Field(default_factory=dict)
    others: dict[str, OtherSchedule] = Field(default_factory=dict)


class Resolved(Part):
    """When something runs, with nothing left unsaid."""

    cron: str = ""
    time_zone: str = "UTC"
    jitter: int = 0
    catchup_window: int = 86_400
    overlap: Overlap = "skip"
    note: str = ""
    paused: bool = False
    enabled: bool = True
    max_partitions: int = 1_000


BUILT_IN = Levels.model_validate(
    {
        "kinds": {
            "daily": {"cron": "0 4 * * *", "jitter": "30m"},
            "hourly": {"cron": "15 * * * *", "jitter": "5m"},
            "integer": {"cron": "30 */6 * * *", "jitter": "30m"},
        }
    }
)
"""What holds without a schedules.yaml."""


def resolve(timings: Iterable[Timing]) -> Resolved:
    """One timing from many, of which the later win."""
    said: dict[str, Any] = {}
    for timing in timings:
        known = {name: value for name in Resolved.model_fields if (value := getattr(timing, name, None)) is not None}
        said |= known
    return Resolved(**said)


def of_table(schedules: Schedules, environment: str, name: str, group: str, kind: PartitionKind) -> Resolved:
    """When the exports of a table run in an environment."""
    levels = [BUILT_IN, schedules, schedules.environments.get(environment, Levels())]
    return resolve(timing for level in levels for timing in level.of(name, group, kind))


def schedule_problems(
    schedules: Schedules, node: Node, *, environments: Iterable[str], groups: Iterable[str], tables: Iterable[str]
) -> Iterator[Problem]:
    """Names that nobody has defined, and other workflows that could not be started as they are written."""
    names: Mapping[str, Iterable[str]] = {"groups": list(groups), "tables": list(tables)}
    environments = list(environments)
    places = [node]
    for name, below in (node.get("environments") or Node({})).items():
        yield from _unknown("environment", name, below, environments)
        places.append(below)
    for place in places:
        for key, known in names.items():
            for name, below in (place.get(key) or Node({})).items():
                yield from _unknown(key.rstrip("s"), name, below, known)
    for name, below in (node.get("others") or Node({})).items():
        yield from bad_name(name, below)
        other = schedules.others.get(name)
        if other is not None:
            yield from _other_problems(other, below, environments)


def _unknown(kind: str, name: str, node: Node, known: Iterable[str]) -> Iterator[Problem]:
    if name not in known:
        yield node.problem(f"no {kind} {name!r} in config{near(name, known)}")


def _other_problems(other: OtherSchedule, node: Node, environments: Iterable[str]) -> Iterator[Problem]:
    # Temporal takes its time to load, which a config without other workflows need not spend.
    from temporalio.exceptions import ApplicationError  # noqa: PLC0415

    from activities.contracts.inputs import read_input  # noqa: PLC0415
    from activities.contracts.scheduling import SCHEDULABLE  # noqa: PLC0415

    if other.cron is None:
        yield node.problem("is missing; say when it runs, such as 0 4 * * *", "cron")
    for index, name in enumerate(other.environments):
        place = node.get("environments", index) or node
        yield from _unknown("environment", name, place, environments)
    shape = SCHEDULABLE.get(other.workflow)
    if shape is None:
        place = node.get("workflow") or node
        yield place.problem(f"no workflow {other.workflow!r} can be scheduled{near(other.workflow, SCHEDULABLE)}")
        return
    try:
        read_input(shape, other.input | filled_in(other, "x", "x", "x"))
    except ApplicationError as wrong:
        yield (node.get("input") or node).problem(f"{other.workflow} could not be started with it: {wrong.message}")


def filled_in(other: OtherSchedule, environment: str, table: str, network: str) -> dict[str, str]:
    """The fields of the input that are not written, since each run has its own."""
    fields = {"environment": environment}
    if other.per != "once":
        fields["table"] = table
    if other.per == "network":
        fields["network"] = network
    return fields
