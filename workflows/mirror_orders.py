"""What people have asked of a mirror's loop, and what came of it: each order is carried out once, and answered."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, CancelledError

from activities.contracts.causes import Cause, acting_for, cause
from activities.contracts.inputs import read_input, read_only_input, write_input
from activities.contracts.mirrors import ANSWER_SIGNAL, MERGE_SIGNAL, MirrorOrder, OrderReport

REMEMBERED_ANSWERS = 20


@dataclass(frozen=True)
class Asked:
    """One order that waits."""

    what: str
    """`merge`, `rebuild-index`, `compact` or `bootstrap`."""
    order: MirrorOrder
    again_at: float = 0.0
    """When it is tried again, in seconds since 1970, since it could not be carried out; 0: it was not tried yet."""


class Orders:
    """Orders in the order in which they came. A merge waits for one that begins after the order has come."""

    def __init__(self) -> None:
        self._waiting: list[Asked] = []
        self._merging: list[Asked] = []
        self._answers: dict[str, OrderReport] = {}

    @property
    def merging(self) -> bool:
        """Whether somebody waits for the merge that goes on."""
        return bool(self._merging)

    @property
    def merges_wait(self) -> bool:
        """Whether somebody waits for a merge that is to begin."""
        return any(asked.what == MERGE_SIGNAL for asked in self._waiting)

    @property
    def merge_cause(self) -> Cause:
        """On whose behalf the next merge is: of who has waited longest for one; nobody's when nobody waits."""
        waiting = (asked for asked in (*self._merging, *self._waiting) if asked.what == MERGE_SIGNAL)
        return next((asked.order.cause for asked in waiting), {})

    def hear(self, what: str, payloads: tuple[Any, ...]) -> bool:
        """Take an order; False for one that is none, or that is known.

        Whoever came through the door was checked there, so an error here must not stop the loop for everybody.
        """
        try:
            order = read_only_input(MirrorOrder, payloads) if payloads else MirrorOrder()
        except ApplicationError as refused:
            workflow.logger.warning("an order was refused: %s", refused)
            return False
        known = {asked.order.id for asked in (*self._waiting, *self._merging) if asked.order.id}
        if order.id in known:
            return False
        self._waiting.append(Asked(what, replace(order, cause=cause())))
        return True

    @property
    def failing(self) -> bool:
        """Whether an order waits that could not be carried out."""
        return any(asked.again_at for asked in self._waiting)

    def next(self, now: float) -> Asked | None:
        """The oldest order that waits and need not wait for longer, merges aside; it stays until it is answered."""
        due = (asked for asked in self._waiting if asked.what != MERGE_SIGNAL and asked.again_at <= now)
        return next(due, None)

    def postpone(self, asked: Asked, again_at: float) -> None:
        """An order could not be carried out; those behind it have their turn meanwhile."""
        later = replace(asked, again_at=again_at)
        self._waiting = [later if other is asked else other for other in self._waiting]

    def hasten(self) -> None:
        """Somebody has mended something: nothing waits for longer."""
        self._waiting = [replace(asked, again_at=0.0) for asked in self._waiting]

    def begin_merge(self) -> None:
        """A merge begins: it is what all orders to merge have waited for."""
        self._merging += [asked for asked in self._waiting if asked.what == MERGE_SIGNAL]
        self._waiting = [asked for asked in self._waiting if asked.what != MERGE_SIGNAL]

    async def answer_known(self) -> None:
        """Answer again what has been answered before: a door reminds until it has heard."""
        for asked in list(self._waiting):
            if asked.order.id in self._answers:
                await self.answer(asked, self._answers[asked.order.id])

    async def answer_merges(self, report: OrderReport, *, also_waiting: bool = False) -> None:
        """Tell everybody who waits for the merge that has ended, or also for one that cannot begin."""
        if also_waiting:
            self.begin_merge()
        for asked in list(self._merging):
            await self.answer(asked, report)

    async def answer_all(self, report: OrderReport) -> None:
        """Tell everybody who waits for anything."""
        for asked in [*self._merging, *self._waiting]:
            await self.answer(asked, report)

    async def answer(self, asked: Asked, report: OrderReport) -> None:
        """Tell who waits for an order what came of it; it waits no more."""
        self._waiting = [other for other in self._waiting if other is not asked]
        self._merging = [other for other in self._merging if other is not asked]
        order = asked.order
        if not order.id:
            return
        self._answers[order.id] = replace(report, id=order.id)
        for old in list(self._answers)[:-REMEMBERED_ANSWERS]:
            del self._answers[old]
        if not order.answer_to:
            return
        asking = workflow.get_external_workflow_handle(order.answer_to)
        try:
            with acting_for(order.cause):
                await asking.signal(ANSWER_SIGNAL, self._answers[order.id])
        except (ApplicationError, CancelledError) as gone:
            workflow.logger.info("nobody waits for %s any more: %s", order.id, gone)

    # --- from run to run ----------------------------------------------------------------------------------------

    def load(self, carried: dict[str, Any]) -> None:
        """Take over; a signal may have come before this, such as a door's reminder."""
        heard = self._waiting
        handed = [_read(one) for one in carried["waiting"]]
        self._merging = [_read(one) for one in carried["merging"]]
        known = {asked.order.id for asked in (*handed, *self._merging) if asked.order.id}
        self._waiting = [*handed, *(asked for asked in heard if asked.order.id not in known)]
        self._answers = {name: OrderReport(**answer) for name, answer in carried["answers"].items()}

    def dump(self) -> dict[str, Any]:
        """What the next run takes over."""
        return {
            "waiting": [_write(asked) for asked in self._waiting],
            "merging": [_write(asked) for asked in self._merging],
            "answers": {name: asdict(answer) for name, answer in self._answers.items()},
        }


def _write(asked: Asked) -> dict[str, Any]:
    return {"what": asked.what, "order": write_input(asked.order), "again_at": asked.again_at}


def _read(written: dict[str, Any]) -> Asked:
    return Asked(written["what"], read_input(MirrorOrder, written["order"]), written.get("again_at", 0.0))
