"""SQL of what beacon nodes tell: block events and attestations."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.sample import clients
from deploy.local.sample.networks import FIRST, SLOT_SECONDS, SLOTS_PER_EPOCH, Network, Version, seconds
from deploy.local.sample.sql import SEED, digest, insert, literal
from deploy.local.sample.tables import ATTESTATIONS, BLOCK_EVENTS

# Soon after the slot began; one row in 400 comes between two hours and two days late.
_PROMPT = "600 + lot % 5000"
_DELAY = f"if(intDiv(lot, 100) % 400 = 0, (7200 + intDiv(lot, 1000) % 165600) * 1000 + lot % 1000, {_PROMPT})"
_MEMBERS = "values('member UInt8', 0, 1, 2)"
"""Attestations of a slot that a client sends: one aggregate, and the votes of two validators."""


@dataclass(frozen=True)
class Reports:
    """Which slots are reported, by whom, and in which version."""

    network: Network
    first_slot: int
    slots: int
    clients: str
    """A table expression with the alias `c`."""
    version: Version = FIRST
    arrival: int = 0
    """Unix seconds at which all of it arrives; 0: each row has a delay of its own."""
    percent: int = 100
    """How many of the slots a client reports."""
    without_hour: str = ""

    @property
    def delay(self) -> str:
        """SQL of the milliseconds from the slot's start to the event."""
        return f"({self.arrival} - start) * 1000 + lot % 1000" if self.arrival else _DELAY


def block_events(database: str, reports: Reports) -> str:
    """INSERT of block events."""
    root = _root(reports.network, "toString(number)")
    forked = _root(reports.network, "toString(number)", "'/fork'")
    return insert(
        BLOCK_EVENTS,
        database,
        aliases=_aliases(reports, "c.name"),
        columns={
            **_event(reports),
            "block": f"if(intDiv(lot, 100) % 1000 = 7, {forked}, {root})",
            "epoch": "epoch",
            "epoch_start_date_time": _epoch_start(reports.network, "epoch"),
            "execution_optimistic": "intDiv(lot, 100) % 50 = 0",
            **clients.columns(reports.network.name, reports.version.number),
        },
        rows=f"numbers({reports.first_slot}, {reports.slots}) AS slots\nCROSS JOIN {reports.clients}\n"
        f"WHERE {_kept(reports)}",
    )


def attestations(database: str, reports: Reports) -> str:
    """INSERT of attestations."""
    network = reports.network
    single = (
        "concat('0x', repeat('00', intDiv(seat, 8)), lower(hex(toUInt8(bitShiftLeft(1, seat % 8)))), "
        "repeat('00', 15 - intDiv(seat, 8)), '01')"
    )
    many = f"substring({digest(literal(network.name + '/bits/'), 'toString(number)', 'c.name')}, 1, 36)"
    return insert(
        ATTESTATIONS,
        database,
        aliases={
            **_aliases(reports, "c.name", "member"),
            "vote": f"cityHash64({SEED}, {literal(network.name)}, number, member)",
            "seat": "vote % 128",
        },
        columns={
            **_event(reports),
            "committee_index": "toString(vote % 64)",
            "attesting_validator_index": (
                f"if(member = 0, NULL, toUInt32(number % {SLOTS_PER_EPOCH} * 31000 + member * 10000 + vote % 10000))"
            ),
            "attesting_validator_committee_index": "if(member = 0, '', toString(seat))",
            "aggregation_bits": f"if(member = 0, {many}, {single})",
            "beacon_block_root": _root(network, "toString(number)"),
            "epoch": "epoch",
            "epoch_start_date_time": _epoch_start(network, "epoch"),
            "source_epoch": "epoch - 1",
            "source_epoch_start_date_time": _epoch_start(network, "(epoch - 1)"),
            "source_root": _root(network, f"toString((epoch - 1) * {SLOTS_PER_EPOCH})"),
            "target_epoch": "epoch",
            "target_epoch_start_date_time": _epoch_start(network, "epoch"),
            "target_root": _root(network, f"toString(epoch * {SLOTS_PER_EPOCH})"),
            **clients.columns(network.name, reports.version.number),
        },
        rows=f"numbers({reports.first_slot}, {reports.slots}) AS slots\n"
        f"CROSS JOIN {_MEMBERS} AS members\n"
        f"CROSS JOIN {reports.clients}\nWHERE {_kept(reports)}",
    )


def _aliases(reports: Reports, *key: str) -> Mapping[str, str]:
    """What the columns of both tables are made of."""
    network = reports.network
    return {
        "start": f"toInt64({network.genesis} + number * {SLOT_SECONDS})",
        "epoch": f"intDiv(number, {SLOTS_PER_EPOCH})",
        "lot": f"cityHash64({SEED}, {literal(network.name)}, number, {', '.join(key)})",
        "delay": f"toInt64({reports.delay})",
    }


def _event(reports: Reports) -> Mapping[str, str]:
    """When it was, and when we heard of it. A correction tells of another delay than the row before it."""
    version = reports.version
    heard = f"(delay + {version.number * 7})"
    return {
        "updated_date_time": f"toDateTime(start + intDiv(delay, 1000) + 65 + lot % 55 + ({version.later}))",
        "event_date_time": f"fromUnixTimestamp64Milli(start * 1000 + {heard})",
        "slot": "number",
        "slot_start_date_time": "toDateTime(start)",
        "propagation_slot_start_diff": heard,
    }


def _kept(reports: Reports) -> str:
    """Which reports there are: one slot in a hundred has no block, and no client sees every slot."""
    name = literal(reports.network.name)
    kept = [f"cityHash64({SEED}, {name}, number) % 100 != 0", reports.version.keeps("lot")]
    if reports.percent != 100:  # noqa: PLR2004 - all of them
        kept.append(f"intDiv(lot, 10000) % 100 < {reports.percent}")
    if reports.without_hour:
        kept.append(f"intDiv(start, 3600) != {seconds(reports.without_hour) // 3600}")
    return " AND ".join(kept)


def _root(network: Network, *slot: str) -> str:
    return digest(literal(f"{network.name}/"), *slot)


def _epoch_start(network: Network, epoch: str) -> str:
    return f"toDateTime({network.genesis} + {epoch} * {SLOTS_PER_EPOCH * SLOT_SECONDS})"
