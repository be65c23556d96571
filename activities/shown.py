"""What readers of a table's public metadata may be with, as its versions say that are there."""

from contextlib import aclosing

from activities import publishing
from activities.abreast import each
from activities.clients.documents import Documents
from activities.context import ExportContext
from activities.core.faults import StoreUnavailable
from activities.core.publication import METADATA, Shown, expired, place_of, snapshot_in, version_in, version_of
from activities.core.tables import TableConfig


async def what_is_shown(context: ExportContext, config: TableConfig, network: str) -> Shown:
    """The snapshots of the published version, and of those that publishing keeps for who began with them.

    To be asked before the table is looked at: whatever is published later was in the table by then, and not older.

    Raises:
        StoreUnavailable: the published version cannot be read, so nobody knows what must stay.
    """
    if not context.public_url:
        return Shown()
    place = place_of(config, network, context.store.name, context.public_url, context.key_prefix)
    documents = Documents(context.store)
    hint = await documents.read(place.hint)
    made: dict[int, int] = {}
    async with aclosing(context.store.objects(place.prefix + METADATA)) as pages:
        async for page in pages:
            made |= {number: found.made for found in page if (number := version_of(found.key)) is not None}
    current = version_in(hint.body if hint else None) or max(made, default=0)
    if not current:
        return Shown()

    async def shown(version: int) -> tuple[int, int] | None:
        found = await documents.read(place.version(version))
        if found is None and version != current:
            return None  # swept meanwhile
        try:
            return snapshot_in(found.body if found else b"")
        except (ValueError, LookupError, TypeError) as broken:
            raise StoreUnavailable(
                f"table {place.table}: {place.version(version)}, a version that its public readers may be with, is not "
                "there or not ours, so nobody knows what they read; the table's next run publishes the newest anew"
            ) from broken

    gone = expired(made, current, await context.store.now() - publishing.KEEP_SECONDS)
    versions = sorted({current, *made} - gone)
    found = dict(zip(versions, await each(shown, versions), strict=True))
    published = found[current]
    return Shown(
        frozenset(one[0] for one in found.values() if one is not None), published[1] if published is not None else None
    )
