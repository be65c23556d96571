"""Keeping a changelog in order, step by step as its ingest would, and what is there then."""

from dataclasses import replace
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities import keeping
from activities.announcing_changelogs import announce_changelogs
from activities.cdc_context import PipelineConfig
from activities.clients.postgres import PostgresSettings
from activities.contracts.cdc import KEEP_STEPS, ChangelogsInput, KeepInput, KeepPage
from activities.core.changelogkeys import changelog_prefix
from activities.core.changelogs import ChangelogRules
from support.changelogs import PIPELINE, SYSTEM, Changelog
from support.fleet import Fleet

NOWHERE = PostgresSettings("none", "127.0.0.1", 1, "d", "u", "")


def with_pipeline(orders: Changelog, **rules: Any) -> Changelog:
    """The changelog as part of a pipeline of config: everything old may go at once, unless `rules` say otherwise."""
    said = {"keep_snapshots": 1, "snapshot_age_seconds": 0, "grace_seconds": 0, **rules}
    namespace = orders.identifier.rpartition(".")[0]
    naming = ChangelogRules(namespace=namespace, name="{table}_changelog", system=SYSTEM, out_of_range="refuse")
    pipeline = PipelineConfig(PIPELINE, None, NOWHERE, "cdc", 1, 1, naming, 1, 1, 1, **said)
    return replace(orders, context=replace(orders.context, pipelines={PIPELINE: pipeline}))


async def keep(orders: Changelog, step: str, *, dry_run: bool = False) -> KeepPage:
    """One turn of one step."""
    asked = KeepInput(orders.context.environment, PIPELINE, orders.identifier, step, dry_run)
    page: KeepPage = await ActivityEnvironment().run(keeping.keep_changelog, orders.context, asked)
    return page


async def keep_all(orders: Changelog) -> dict[str, KeepPage]:
    """Every step, to its end; answers the last turn of each."""
    done: dict[str, KeepPage] = {}
    for step in KEEP_STEPS:
        done[step] = await keep(orders, step)
        while done[step].more:
            done[step] = await keep(orders, step)
    return done


async def announce(orders: Changelog) -> None:
    """Tell NATS of all snapshots: what was not announced never expires."""
    asked = ChangelogsInput(orders.context.environment, PIPELINE, [orders.identifier])
    await announce_changelogs(orders.context, asked)


async def objects(orders: Changelog) -> set[str]:
    """Keys of everything below the changelog's prefix, without the prefix."""
    prefix = orders.context.key(changelog_prefix(orders.identifier))
    found = orders.context.store.objects(prefix)
    return {one.key.removeprefix(prefix) async for page in found for one in page}


async def metadata(orders: Changelog) -> set[str]:
    """Names of everything where the catalog keeps the changelog's metadata."""
    bucket, _, key = orders.context.lake.load(orders.identifier).location().rpartition("://")[2].partition("/")
    prefix = f"{key.rstrip('/')}/metadata/"
    found = orders.context.store.bucket(bucket).objects(prefix)
    return {one.key.removeprefix(prefix) async for page in found for one in page}


def sequences(fleet: Fleet, identifier: str) -> list[str]:
    """The sequence numbers of a changelog's rows, in the order of its files."""
    table = fleet.load(identifier)
    return [str(one) for one in table.scan(selected_fields=("cdc_sequence_number",)).to_arrow().column(0).to_pylist()]
