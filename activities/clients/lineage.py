"""Which server a log is of, and from which timeline its own branched off.

A standby that takes over, and a backup that is restored to a point in time, go on under a new timeline. Positions of
the old one beyond the branch mean something else on the new one.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from activities.clients.postgres import faults_of
from activities.core.changelogs import lsn_number, lsn_text
from activities.core.faults import SlotLost


@dataclass(frozen=True)
class Known:
    """What a buffer was filled with before; see `lineage_of`."""

    lineage: str
    """Empty: nobody has looked."""
    captured_lsn: int


async def lineage_of(connection: psycopg.AsyncConnection[Any], name: str, known: Known) -> str:
    """The server's identifier and its timeline, as `7301…/2`; the connection speaks the replication protocol.

    Raises:
        SlotLost: what `known` says to be in the buffer is not what this server's log has there.
        PostgresUnavailable: the server is gone.
    """
    with faults_of(name):
        told = await (await connection.execute("IDENTIFY_SYSTEM")).fetchone() or ("", 0)
        system, timeline = str(told[0]), int(told[1])
        before, _, old = known.lineage.partition("/")
        if known.lineage and before != system:
            raise SlotLost(
                f"{name}: this is server {system}, and the buffer was filled from {before}; "
                "`icefleet cdc install --again` copies its tables anew and goes on from there"
            )
        if known.lineage and int(old) != timeline:
            history = sql.SQL("TIMELINE_HISTORY {}").format(sql.Literal(timeline))
            found = await (await connection.execute(history)).fetchone() or ("", "")
            branch = branch_of(str(found[1]), int(old))
            if branch is None or known.captured_lsn > branch:
                where = "from another timeline" if branch is None else f"at {lsn_text(branch)}"
                raise SlotLost(
                    f"{name}: this server took over {where}, before {lsn_text(known.captured_lsn)}, up to which the "
                    "buffer was filled by the one before: what it wrote since would be taken for known; "
                    "`icefleet cdc install --again` copies its tables anew and goes on from there"
                )
    return f"{system}/{timeline}"


def branch_of(history: str, timeline: int) -> int | None:
    """Where a timeline was left for the next one, as a timeline's history file says; None: it is not among those."""
    for line in history.splitlines():
        parts = line.split("#", 1)[0].split()
        if len(parts) > 1 and parts[0] == str(timeline):
            return lsn_number(parts[1])
    return None
