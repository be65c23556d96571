"""Every `icefleet` command of every document is run where it may be typed, and does what documents say of it."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from support.documented import Said, World, documented
from support.documents import Line, documents, shell_lines, words_of
from support.fleet import eventually
from support.forks import Process

# Started once for all of them, and beside whatever else a machine does.
pytestmark = pytest.mark.timeout(900)
DEPLOYMENT = "icefleet-production"
AT_ONCE = 3
DO, LOOK, STAY, MAKE_CURRENT, TAKE_AWAY = "do", "look", "stay", "make current", "take away"


@dataclass(frozen=True)
class Place:
    """When commands of a form are run, and what they must say."""

    when: str
    form: str
    """Matches a command from its beginning: without `icefleet`, and without which environment and pipeline."""
    says: str
    """Is found in what it prints."""
    asks: bool = False
    """A person at a terminal says yes."""
    before: Callable[[World], Awaitable[object]] | None = None
    """What must be so for it to make sense."""


PLACES = (
    # In this order, those of one group of commands behind each other:
    Place(DO, "export beacon_api_eth_v1_events_block -n mainnet --wait$", r"4 partitions with \d+ rows committed"),
    Place(DO, "export canonical_execution_block .*--to 3999 --wait$", "3 partitions with 3000 rows committed"),
    Place(DO, "export .*--force .*--wait$", r"\d partitions with \d+ rows committed"),
    Place(DO, "export .*--dry-run --wait$", r"would get \d missing, 0 stale and 0 forced .* nothing was written"),
    Place(DO, "export .*--wait$", r"holds all \d of the closed partitions|2 partitions with 2000 rows committed"),
    Place(DO, "adopt .*--dry-run$", "0 files with 0 rows would become part of .*were there already"),
    Place(DO, "adopt .*--json$", '"status": "complete"'),
    Place(DO, "adopt ", "0 files with 0 rows became part of .*were there already"),
    Place(DO, "backfill start .*--dry-run$", r"2 are there, .* nothing was written"),
    Place(DO, "backfill start .*--wait$", "nothing to do: 1 table hold all 2 "),
    Place(DO, "backfill start group:daily ", "started as backfill/production/group-daily-"),
    Place(DO, "backfill list$", r"^id +status +started|no backfill is running"),
    Place(DO, "backfill show ID( --wait)?$", r"\d/2 tables(.|\n)*mainnet.beacon_api_eth_v1_events_block "),
    Place(DO, "upkeep .*--dry-run$", r"\d snapshots would be expired"),
    Place(DO, "upkeep ", r"\d snapshots expired"),
    Place(DO, "maintain --dry-run$", r"[89] tables: \d+ snapshots would be expired"),
    Place(DO, "maintain --kind export .*--wait$", r"\d tables: \d+ snapshots expired"),
    Place(DO, "maintain .*--wait$", r"[13] tables: \d+ snapshots expired"),
    Place(DO, "orphans --delete --older-than 24h$", "nothing to delete"),
    Place(DO, "cdc install --tables public.orders,public.customers$", "2 tables are followed"),
    Place(DO, "cdc requeue 4711$", "1 dead letters sent into the buffer again"),
    Place(DO, "cdc drop 4711 --reason a test row$", "1 dead letters dropped"),
    Place(DO, "cdc resume$", "capture of shop goes on\ningest of shop goes on"),
    Place(DO, "cdc install .*--again$", "[12] tables are followed; [12] of them are copied first"),
    Place(DO, r"cdc resume --table (public\.)?orders$", "table public.orders .*goes on", before=World.stop_orders),
    Place(DO, "mirrors merge (--all|shop.orders) --once$", "shop.orders has everything up to changelog snapshot"),
    Place(DO, "mirrors merge .*--bootstrap$", "bootstrap of shop.orders is done"),
    Place(DO, "mirrors merge shop.orders$", "shop.orders merges"),
    Place(DO, "mirrors rebuild-index ", "rebuild-index of shop.orders is done"),
    Place(DO, "mirrors compact ", r"shop.orders: \d files became \d"),
    Place(DO, "mirrors resume ", "shop.orders goes on"),
    Place(DO, "schedules apply( -e parallel)?$", "applied: (10|3) made, 0 changed", asks=True),
    Place(DO, "schedules apply --yes --prune$", "0 new, 0 changed, 10 unchanged, 0 gone"),
    Place(DO, "schedules pause ", "paused export/production/canonical_execution_block"),
    Place(DO, "schedules resume ", "resumed export/production/"),
    Place(DO, "schedules trigger ", "triggered export/production/beacon_api_eth_v1_events_block"),
    # Then these, some at once, since they change nothing:
    Place(LOOK, "config check$", r"^production +production.default +6 +1 +set"),
    Place(LOOK, "config check .*--source$", "(production|parallel).default: 3 tables, nothing wrong"),
    Place(LOOK, "config check --destination$", "bucket icefleet: it can hold a lake"),
    Place(LOOK, "temporal init", "all search attributes are registered"),
    Place(LOOK, "tables (.* )?--source$", r"^mainnet.\w+ +([45]) +[0-9,]+ +\1 +0 +0 +0 "),
    Place(LOOK, "tables$", r"^mainnet.canonical_execution_block +5 +5,000 "),
    Place(LOOK, "coverage --html coverage.html$", "coverage.html: 6 tables and networks of production"),
    Place(LOOK, "coverage --json$", '"table": "mainnet.canonical_execution_block"'),
    Place(LOOK, "coverage", r"mainnet.beacon_api_eth_v1_events_block: 4 of 4 there; newest 2024-03-21"),
    Place(LOOK, "verify .*--deep$", r"[45] of [45] partitions proved by their values"),
    Place(LOOK, "verify ", r"(4 of 4|5 of 5|1 of 1) partitions proved"),
    Place(LOOK, "compare .*--deep$", "partitions are the same by their values"),
    Place(LOOK, "compare ", "(6 of 6|2 of 2) tables and networks are the same"),
    Place(LOOK, "orphans .*--json$", r"^\[\]"),
    Place(LOOK, "orphans", "0 orphans, 0 bytes"),
    Place(LOOK, "sql SELECT count", r"count_star\(\) *\n *5000"),
    Place(LOOK, "sql SELECT .* FROM cdc.public_orders_changelog ", r"cdc_operation(.|\n)*^(insert|truncate) "),
    Place(LOOK, r"sql SELECT \* FROM shop.orders$", r"^\S+ +1 +Ada +120.00 +new"),
    Place(LOOK, "schedules list", r"export/production/beacon_api_eth_v1_events_block +0 4 "),
    Place(LOOK, "schedules diff$", "0 new, 0 changed, 10 unchanged, 0 gone"),
    Place(LOOK, "cdc status$", r"pipeline shop(.|\n)*^public.orders +cdc.public_orders_changelog "),
    Place(LOOK, "cdc dead-letters$", "no dead letters|infinity|timestamp"),
    Place(LOOK, "mirrors list$", r"^shop.orders +cdc.public_orders_changelog +running"),
    Place(LOOK, "mirrors show ", r"^mirror shop.orders of cdc.public_orders_changelog"),
    Place(LOOK, "mirrors verify ", r"shop.orders: all \d+ rows are what the changelog says"),
    Place(LOOK, "watch .*--count [15]$", r"append #\d+"),
    # Then these, until they are told to end:
    Place(STAY, "watch", r"(mainnet|holesky|cdc|shop)\.\w+  |\"table\": ?\"mainnet\."),
    Place(STAY, "worker", "worker is ready"),
    # At the end what would be in the way of others:
    Place(MAKE_CURRENT, "temporal promote", f"0.[12].0 (is now|was already) the current build of {DEPLOYMENT}"),
    Place(TAKE_AWAY, "cdc pause$", "capture of shop pauses.*\ningest of shop pauses"),
    Place(TAKE_AWAY, "cdc uninstall$", "removed: slot icefleet_production_shop"),
    Place(TAKE_AWAY, "cdc uninstall -p PIPELINE$", "removed: nothing was there"),
    Place(TAKE_AWAY, "schedules delete --all$", "10 deleted", asks=True),
    Place(TAKE_AWAY, "schedules delete --all --yes$", "10 deleted", before=lambda world: world.must(*APPLY)),
)
APPLY = ("schedules", "apply", "--yes")


@dataclass(frozen=True)
class Command:
    """A command as documents have it, however often, and the first line that does."""

    words: tuple[str, ...]
    form: str
    line: Line

    @property
    def place(self) -> Place | None:
        """None when nobody has said when it is run."""
        return next((place for place in PLACES if re.match(place.form, self.form)), None)


def commands() -> list[Command]:
    """Every command of ours in every document, once."""
    found: dict[str, Command] = {}
    for line in (line for path in documents() for line in shell_lines(path)):
        if line.text.startswith("icefleet ") and not line.text.endswith("{"):  # that is a block of somebody's config
            words = words_of(line)[1:]
            form = re.sub(r" -e production\b| -p shop\b", "", " ".join(words)).replace("--network", "-n")
            found.setdefault(form, Command(tuple(words), form, line))
    return list(found.values())


def those(when: str) -> list[tuple[Command, Place]]:
    """Commands that are run then, in the order of their places."""
    placed = [(one, place) for one in commands() if (place := one.place) is not None and place.when == when]
    return sorted(placed, key=lambda pair: PLACES.index(pair[1]))


def wrong(one: Command, place: Place, said: Said) -> list[str]:
    """What is to be said of a command that did not do what documents say."""
    code, text = said
    if code == 0 and re.search(place.says, text, re.MULTILINE) and "Traceback" not in text:
        return []
    return [f"{one.line}\nleft with {code}; expected 0, and to find {place.says!r} in\n{text}"]


async def done(world: World, one: Command, place: Place) -> list[str]:
    """Run it; what was wrong."""
    if place.before is not None:
        await place.before(world)
    words = await world.fill(one.words)
    return wrong(one, place, await (world.agree if place.asks else world.run)(*words))


async def one_by_one(world: World, some: Iterable[tuple[Command, Place]]) -> list[str]:
    """Run them, each when the one before has ended; what was wrong."""
    return [text for one, place in some for text in await done(world, one, place)]


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with documented(tmp_path_factory.mktemp("documented")) as found:
        yield found


@pytest.fixture(scope="module")
async def complaints(world: World) -> list[str]:
    """What was wrong with the commands that do something: all others look at what these have made."""
    groups: dict[str, list[tuple[Command, Place]]] = {}
    for one, place in those(DO):
        group = "changes" if one.words[0] in {"cdc", "mirrors"} else one.words[0]
        groups.setdefault(group if group in {"changes", "schedules"} else "exports", []).append((one, place))
    return [
        text for found in await asyncio.gather(*(one_by_one(world, some) for some in groups.values())) for text in found
    ]


def test_every_command_of_a_document_has_its_place_and_every_place_a_command():
    assert [str(one.line) for one in commands() if one.place is None] == []
    assert set(PLACES) - {one.place for one in commands()} == set()


async def test_commands_that_have_something_done_do_it(complaints):
    assert complaints == []


@pytest.mark.usefixtures("complaints")
async def test_commands_that_look_show_what_is_there(world):
    turns = asyncio.Semaphore(AT_ONCE)

    async def look(one: Command, place: Place) -> list[str]:
        async with turns:
            return await done(world, one, place)

    looks = await asyncio.gather(*(look(*pair) for pair in those(LOOK)))
    assert [text for found in looks for text in found] == []
    assert "<html" in world.page.read_text()


@pytest.mark.usefixtures("complaints")
async def test_commands_that_stay_are_there_until_they_are_told_to_leave(world):
    with ExitStack() as held:
        staying = []
        for one, place in those(STAY):
            words = await world.fill(one.words)
            staying.append((one, place, words, *held.enter_context(world.started(*words))))

        async def all_there() -> bool:
            # Whoever watches what comes sees this one.
            await world.must(
                "export", "canonical_execution_block", "-n", "mainnet", "--date", "1000", "--force", "--wait"
            )
            return all(re.search(place.says, log.read_text()) for _, place, _, _, log in staying)

        await eventually(all_there)
        for _, _, words, _, _ in staying:
            if "--listen" in words:
                assert await statuses(words[words.index("--listen") + 1]) == [200, 200, 200]
        for one, _, _, process, _ in staying:
            process.send_signal(signal.SIGINT if one.words[0] == "watch" else signal.SIGTERM)
        left = [
            wrong(one, place, await asyncio.to_thread(end_of, process, log)) for one, place, _, process, log in staying
        ]
    assert [text for found in left for text in found] == []


async def statuses(address: str) -> list[int]:
    """What a worker's three pages answer."""
    async with aiohttp.ClientSession() as client:
        answers = [await client.get(f"http://{address}/{page}") for page in ("livez", "readyz", "metrics")]
    return [answer.status for answer in answers]


def end_of(process: Process, log: Path) -> Said:
    """Exit code and output of what was told to end."""
    return process.wait(60), log.read_text()


@pytest.mark.usefixtures("complaints")
async def test_commands_that_take_away_do_so(world):
    assert await one_by_one(world, those(TAKE_AWAY)) == []


@pytest.mark.usefixtures("complaints")
async def test_a_build_is_made_current_by_hand_as_documents_have_it(world):
    named = {"ICEFLEET_DEPLOYMENT": DEPLOYMENT, "APP_VERSION": "0.2.0"}
    versions = sorted(those(MAKE_CURRENT), key=lambda pair: pair[0].words[::-1][0])
    with ExitStack() as held:
        found = []
        for build in ("0.1.0", "0.2.0"):
            held.enter_context(world.started("worker", "--deployment", DEPLOYMENT, "--build", build))
            for one, place in versions:
                if one.words[-1] == build:
                    found += wrong(one, place, await world.run(*one.words))
        for one, place in versions:
            if "--build" not in one.words:
                found += wrong(one, place, await world.run(*one.words, **named))
        said = [await world.by_temporal(*words) for words in described()]
    assert found == []
    assert said
    assert [text for text in said if not re.search(r"0\.2\.0", text)] == []


def described() -> list[list[str]]:
    """How documents look at what is current, with the name that the deployment has here."""
    lines = [line for path in documents() for line in shell_lines(path)]
    asked = [words_of(line)[1:] for line in lines if line.text.startswith("temporal worker deployment describe ")]
    return [[*words[: words.index("--name") + 1], DEPLOYMENT] for words in asked]
