"""The doors of a pipeline: what they begin, and what they end."""

import pytest
from temporalio.client import WorkflowFailureError

from activities.contracts.cdc import (
    INSTALL_WORKFLOW,
    PAUSE_SIGNAL,
    UNINSTALL_WORKFLOW,
    ChangelogsInput,
    CopyReport,
    InstallReport,
    InstallRequest,
    UninstallRequest,
)
from activities.core.faults import BusRefused
from support.cdcloops import LANDED, PIPELINE, ingested, loops, progress_of
from support.fleet import eventually


async def test_an_installation_has_both_loops_run_and_wakes_one_that_waited(fleet):
    async with loops(fleet) as own:
        capture = await own.capture()
        await capture.signal(PAUSE_SIGNAL)
        await progress_of(capture, state="paused")
        door = await own.start(INSTALL_WORKFLOW, f"install-{fleet.name}", tables=["public.orders"])
        report = await door.result()
        await eventually(lambda: sorted(own.rooms.running) == ["capture", "ingest"])
    assert report["slot"] == "icefleet_shop"
    assert own.rooms.called(InstallRequest) == [InstallRequest(PIPELINE, ["public.orders"], fleet.name)]


async def test_a_pipeline_without_a_source_gets_no_capture(fleet):
    async with loops(fleet, source=False) as own:
        own.rooms.installed = InstallReport(message="only the buffer")
        door = await own.start(INSTALL_WORKFLOW, f"install-{fleet.name}")
        await door.result()
        await eventually(lambda: own.rooms.running == ["ingest"])
        other = await own.start(INSTALL_WORKFLOW, f"install-{fleet.name}-2", tables="orders")
        with pytest.raises(WorkflowFailureError) as failed:
            await other.result()
    assert "field 'tables' must be a list" in str(failed.value.cause)


@pytest.mark.parametrize("drop_buffer", [False, True])
async def test_an_uninstallation_ends_the_capture_first_and_the_ingest_only_with_its_buffer(fleet, drop_buffer):
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(to_copy=["public.a"])]
        own.rooms.landing_seconds = 0.3
        await own.capture()
        await own.ingest()
        await eventually(lambda: sorted(own.rooms.running) == ["capture", "ingest", "public.a"])
        door = await own.start(UNINSTALL_WORKFLOW, f"uninstall-{fleet.name}", drop_buffer=drop_buffer)
        report = await door.result()
        assert sorted(own.rooms.running) == ([] if drop_buffer else ["ingest", "public.a"])
        if drop_buffer:
            # Nobody is left who would announce what was committed last.
            everything = ChangelogsInput(fleet.name, PIPELINE, [])
            assert own.rooms.calls[-3:] == [
                LANDED,
                everything,
                UninstallRequest(PIPELINE, fleet.name, drop_buffer=True),
            ]
        own.rooms.copied["public.a"] = CopyReport("public.a", "cdc.public_a", 1, 1, "0/1", "1")
        # Again, with nothing left to be stopped.
        await (await own.start(UNINSTALL_WORKFLOW, f"uninstall-{fleet.name}")).result()
    assert report["removed"] == ["slot"]
    assert own.rooms.called(UninstallRequest)[0] == UninstallRequest(PIPELINE, fleet.name, drop_buffer=drop_buffer)


async def test_a_buffer_is_not_dropped_while_what_was_committed_last_cannot_be_announced(fleet):
    async with loops(fleet) as own:
        own.rooms.announcing = [BusRefused("no right to publish")]
        door = await own.start(UNINSTALL_WORKFLOW, f"uninstall-{fleet.name}", drop_buffer=True)
        with pytest.raises(WorkflowFailureError) as failed:
            await door.result()
        assert own.rooms.called(UninstallRequest) == []
    assert failed.value.cause.type == "BusRefused"
    assert "no right to publish. What pipeline shop committed last is not announced" in str(failed.value.cause)
    assert "Uninstall again when this is mended" in str(failed.value.cause)
