"""Schedules on the server, held against those that config wants, and brought into line."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from worker.schedules import MARK, Wanted, cron_of

AT_ONCE = 16
"""Questions to the server at the same time."""


@dataclass
class Difference:
    """What `apply` would do, or has done."""

    new: list[Wanted] = field(default_factory=list)
    changed: list[tuple[Wanted, dict[str, tuple[Any, Any]]]] = field(default_factory=list)
    """With each field that differs: as it is, and as it is wanted."""
    unchanged: list[Wanted] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Ids of ours that config does not have, or not any more."""
    foreign: list[str] = field(default_factory=list)
    """Ids that config wants and somebody else has."""

    def is_empty(self, *, prune: bool) -> bool:
        """Whether nothing is to be done."""
        return not (self.new or self.changed or (prune and self.gone))


async def compare(client: Client, environment: str, wanted: Sequence[Wanted]) -> Difference:
    """Hold what config wants against the server; nothing is changed."""
    difference = Difference()
    found = await describe_all(client, [one.id for one in wanted])
    for one in wanted:
        description = found.get(one.id)
        if description is None:
            difference.new.append(one)
        elif not await is_ours(description, environment):
            difference.foreign.append(one.id)
        elif changes := await _changes(client, one, description.schedule):
            difference.changed.append((one, changes))
        else:
            difference.unchanged.append(one)
    ids = {one.id for one in wanted}
    difference.gone = [name for name in await our_ids(client, environment) if name not in ids]
    return difference


async def bring_into_line(client: Client, difference: Difference, *, prune: bool) -> None:
    """Do what the difference says; what has meanwhile been done by somebody else is no error."""
    await _each(_create(client, one) for one in difference.new)
    await _each(_update(client, one) for one, _ in difference.changed)
    if prune:
        await _each(delete(client, name) for name in difference.gone)


async def our_ids(client: Client, environment: str) -> list[str]:
    """Ids of the schedules of an environment that were made from its config. The list may lag behind by a moment."""
    entries = await client.list_schedules(f"{ENVIRONMENT_ATTRIBUTE.name} = '{environment}'")
    return sorted([entry.id async for entry in entries if (await entry.memo()).get(MARK) == environment])


async def describe_all(client: Client, ids: Iterable[str]) -> dict[str, ScheduleDescription]:
    """Id → what the server says of it, of those that are there."""

    async def describe(name: str) -> ScheduleDescription | None:
        try:
            return await client.get_schedule_handle(name).describe()
        except RPCError as gone:
            if gone.status != RPCStatusCode.NOT_FOUND:
                raise
            return None

    found = await _each(describe(name) for name in ids)
    return {one.id: one for one in found if one is not None}


async def is_ours(description: ScheduleDescription, environment: str) -> bool:
    """Whether a schedule was made from an environment's config."""
    return (await description.memo()).get(MARK) == environment


async def delete(client: Client, name: str) -> None:
    """Delete a schedule, which may be gone already."""
    try:
        await client.get_schedule_handle(name).delete()
    except RPCError as gone:
        if gone.status != RPCStatusCode.NOT_FOUND:
            raise


async def _create(client: Client, one: Wanted) -> None:
    try:
        await client.create_schedule(one.id, one.schedule(), memo=one.memo, search_attributes=one.attributes)
    except ScheduleAlreadyRunningError:
        await _update(client, one)  # another `apply` was faster


async def _update(client: Client, one: Wanted) -> None:
    async def change(asked: ScheduleUpdateInput) -> ScheduleUpdate | None:
        if not await is_ours(asked.description, one.environment):
            return None
        return ScheduleUpdate(one.schedule(asked.description.schedule.state), one.attributes)

    await client.get_schedule_handle(one.id).update(change)


async def _changes(client: Client, one: Wanted, found: Schedule) -> dict[str, tuple[Any, Any]]:
    there = await _fields(client, found)
    wanted = await _fields(client, one.schedule(found.state))
    return {name: (there[name], wanted[name]) for name in wanted if there[name] != wanted[name]}


async def _fields(client: Client, schedule: Schedule) -> dict[str, Any]:
    """What config decides of a schedule, in the order in which people read it."""
    action, spec, policy = schedule.action, schedule.spec, schedule.policy
    if not isinstance(action, ScheduleActionStartWorkflow):
        raise TypeError(f"a schedule that starts no workflow: {action!r}")
    inputs = await _plain(client, action.args)
    [summary] = await _plain(client, [action.static_summary])
    return {
        "cron": cron_of(spec),
        "time_zone": spec.time_zone_name or "UTC",
        "jitter": _seconds(spec.jitter),
        "catchup_window": _seconds(policy.catchup_window),
        "overlap": ScheduleOverlapPolicy(policy.overlap).name.lower(),
        "workflow": action.workflow,
        "input": inputs[0] if len(inputs) == 1 else inputs,
        "workflow_id": action.id,
        "task_queue": action.task_queue,
        "summary": summary,
        "attributes": {pair.key.name: pair.value for pair in action.typed_search_attributes},
        "paused": schedule.state.paused,
        "note": schedule.state.note or "",
    }


async def _plain(client: Client, values: Iterable[Any]) -> list[Any]:
    """The values of an action: those of one that was read from the server are payloads."""
    decode = client.data_converter.decode
    return [value if value is None or isinstance(value, str | dict) else (await decode([value]))[0] for value in values]


def _seconds(span: timedelta | None) -> int:
    return int(span.total_seconds()) if span else 0


async def _each(work: Iterable[Any]) -> list[Any]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(task: Any) -> Any:
        async with slots:
            return await task

    return list(await asyncio.gather(*(one(task) for task in work)))
