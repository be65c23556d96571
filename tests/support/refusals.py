"""Asking for what cannot be, and hearing why."""

import asyncio
import uuid
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.contracts.export import REQUEST_WORKFLOW
from support.fleet import Fleet

SECONDS = 5
"""How long a person waits to hear that something cannot be."""


async def refusal(
    fleet: Fleet, *inputs: Any, workflow: str = REQUEST_WORKFLOW, identity: str = "", seconds: float = SECONDS
) -> tuple[str, str]:
    """Start a workflow as a person would and answer the type and message of the failure that the UI shows first."""
    handle = await fleet.temporal.start_workflow(
        workflow, args=list(inputs), id=identity or f"by-hand-{uuid.uuid4()}", task_queue=fleet.queue
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), seconds)
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError), cause
    return str(cause.type), cause.message


def asking(fleet: Fleet, **fields: Any) -> dict[str, Any]:
    """A good request, changed; a field that is to be None is left out."""
    payload = {"table": "events", "network": fleet.network, "environment": fleet.name, **fields}
    return {name.rstrip("_"): value for name, value in payload.items() if value is not None}
