"""Temporal Schedules as config wants them, held against those that are there."""

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from activities.contracts.due import DUE_WORKFLOW, DueRequest
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, NETWORK_ATTRIBUTE, TABLE_ATTRIBUTE
from activities.contracts.inputs import write_input
from activities.core.cron import FIELDS, Cron, cron_text, parse_cron
from worker.config import Settings
from worker.config_schedules import OtherSchedule, Resolved, filled_in, of_table, resolve

MARK = "icefleet"
"""Key of a schedule's memo, which only ours have: its value is the environment. Foreign schedules are never touched."""
PAUSED_BY_CONFIG = "paused by schedules.yaml"
"""How the note of a pause begins that is not a person's."""


@dataclass(frozen=True)
class Wanted:
    """One schedule, as config wants it."""

    id: str
    environment: str
    workflow: str
    input: dict[str, Any]
    summary: str
    timing: Resolved
    task_queue: str
    table: str = ""
    network: str = ""
    mapping: str = ""
    """`source → destination`, of a table."""

    @property
    def note(self) -> str:
        """What people read beside a schedule that runs."""
        return self.timing.note or "as schedules.yaml says"

    @property
    def memo(self) -> dict[str, str]:
        """What the schedule is known by, for good: a memo cannot be changed."""
        said = {MARK: self.environment, "table": self.table, "network": self.network, "mapping": self.mapping}
        return {name: value for name, value in said.items() if value}

    @property
    def attributes(self) -> TypedSearchAttributes:
        """By which the Temporal UI finds the schedule and its runs."""
        said = (
            (ENVIRONMENT_ATTRIBUTE, self.environment),
            (TABLE_ATTRIBUTE, self.table),
            (NETWORK_ATTRIBUTE, self.network),
        )
        return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in said if value])

    def schedule(self, found: ScheduleState | None = None) -> Schedule:
        """The schedule; what `found` says of pauses and of how many runs are left stays, as far as it is a person's."""
        timing = self.timing
        return Schedule(
            action=ScheduleActionStartWorkflow(
                self.workflow,
                self.input,
                id=f"scheduled/{self.id}",
                task_queue=self.task_queue,
                static_summary=self.summary,
                typed_search_attributes=self.attributes,
            ),
            spec=ScheduleSpec(
                calendars=[calendar_of(parse_cron(timing.cron))],
                jitter=timedelta(seconds=timing.jitter) if timing.jitter else None,
                time_zone_name=timing.time_zone,
            ),
            policy=SchedulePolicy(
                overlap=ScheduleOverlapPolicy[timing.overlap.upper()],
                catchup_window=timedelta(seconds=timing.catchup_window),
            ),
            state=self._state(found or ScheduleState()),
        )

    def _state(self, found: ScheduleState) -> ScheduleState:
        paused, note = self.timing.paused, self.note
        if self.timing.paused:
            note = found.note or "" if found.paused else f"{PAUSED_BY_CONFIG}: {self.note}"
        elif found.paused and not (found.note or "").startswith(PAUSED_BY_CONFIG):
            paused, note = True, found.note or ""  # a person's: it stays
        return ScheduleState(note, paused, found.limited_actions, found.remaining_actions)


def wanted(settings: Settings, environment: str) -> list[Wanted]:
    """Every schedule that an environment is to have: of each table that it gets, and of the other workflows.

    Raises:
        BadRequest: there is no such environment.
        BadConfig: variables that it names are not set.
    """
    queue = settings.environment(environment, "temporal").temporal.task_queue
    networks: dict[str, list[str]] = {}
    found: list[Wanted] = []
    for config, network in settings.exports(environment):
        networks.setdefault(config.name, []).append(network)
        if len(networks[config.name]) > 1:
            continue
        group = settings.tables[config.name].group
        timing = of_table(settings.schedules, environment, config.name, group, config.partition.kind)
        found.append(
            Wanted(
                id=f"export/{environment}/{config.name}",
                environment=environment,
                workflow=DUE_WORKFLOW,
                input=write_input(DueRequest(config.name, environment, max_partitions=timing.max_partitions)),
                summary=f"whatever is due of {config.name}",
                timing=timing,
                task_queue=queue,
                table=config.name,
                mapping=f"{config.source} → {environment}",
            )
        )
    for name, other in settings.schedules.others.items():
        if not other.environments or environment in other.environments:
            found += _others(name, other, environment, networks, queue)
    return [one for one in found if one.timing.enabled]


def _others(
    name: str, other: OtherSchedule, environment: str, networks: Mapping[str, list[str]], queue: str
) -> Iterator[Wanted]:
    places = [("", "")]
    if other.per != "once":
        tables = [table for table in networks if any(fnmatch.fnmatchcase(table, glob) for glob in other.tables)]
        places = [(table, network) for table in tables for network in networks[table]]
        if other.per == "table":
            places = [(table, "") for table in tables]
    for table, network in places:
        identifier = ".".join(part for part in (network, table) if part)
        yield Wanted(
            id="/".join(part for part in (name, environment, identifier) if part),
            environment=environment,
            workflow=other.workflow,
            input=other.input | filled_in(other, environment, table, network),
            summary=f"{name}: {other.workflow} {identifier}".strip(),
            timing=resolve([other]),
            task_queue=queue,
            table=table,
            network=network,
        )


def calendar_of(cron: Cron) -> ScheduleCalendarSpec:
    """The calendar that Temporal makes of a cron expression."""
    minute, hour, day, month, weekday = ([ScheduleRange(*one) for one in ranges] for ranges in cron)
    return ScheduleCalendarSpec(minute=minute, hour=hour, day_of_month=day, month=month, day_of_week=weekday)


def cron_of(spec: ScheduleSpec) -> str:
    """The cron expression of a schedule; one that somebody made otherwise is named as what it is."""
    if len(spec.calendars) == 1 and not (spec.intervals or spec.skip or spec.start_at or spec.end_at):
        [calendar] = spec.calendars
        parts = (calendar.minute, calendar.hour, calendar.day_of_month, calendar.month, calendar.day_of_week)
        if all(parts) and tuple(calendar.second) == (ScheduleRange(0),) and not calendar.year:
            return cron_text(tuple(tuple((one.start, one.end, one.step) for one in ranges) for ranges in parts))
    return f"no cron expression of {len(FIELDS)} fields"
