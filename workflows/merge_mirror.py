"""The durable loop that keeps a mirror at its changelog's end: the only writer that the mirror has."""

import math
from collections.abc import Awaitable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, RetryState, is_cancelled_exception

from activities.contracts.causes import Cause, acting_for, cause
from activities.contracts.mirrors import (
    BOOTSTRAP_SIGNAL,
    COMPACT_SIGNAL,
    MAINTAIN_SIGNAL,
    MERGE_SIGNAL,
    MERGE_WORKFLOW,
    REBUILD_SIGNAL,
    RESUME_SIGNAL,
    CompactReport,
    MergeInput,
    MergeReport,
    MirrorActivities,
    MirrorInput,
    MirrorRequest,
    MirrorTrouble,
    OrderReport,
    TidyReport,
    mirror_id,
)
from workflows.after_commit import Runner
from workflows.failures import cause_of
from workflows.lasting import Lasting
from workflows.mirror_orders import Asked, Orders
from workflows.mirror_upkeep import Compaction, Tidying, tidied
from workflows.policies import ANNOUNCE, COMPACT, MERGE, REMAKE, WATCH_MIRROR
from workflows.queues import queues_of
from workflows.steered import SteeredLoop, Trouble

T = TypeVar("T")

TURN_SECONDS = 60.0
"""A turn begins no further piece after that, so that orders, and whoever looks, need not wait for long."""
WAITS_LONG_SECONDS = 900.0
"""After that it is a finding that a mirror waits for its changelog, which may be called otherwise."""
HELD = frozenset({"WatermarkLost", "MirrorForeign", "SchemaConflict", "ChangeInvalid", "BadConfig"})
"""Faults after which only a person can say when to try again."""
REMADE = frozenset({BOOTSTRAP_SIGNAL, REBUILD_SIGNAL})
"""Orders that are kept when what may pass has outlasted all attempts: nothing else would carry them out."""
COUNTED = ("commits", "scanned", "upserted", "deleted", "superseded", "ties", "refused")
INTERRUPTED = "it was interrupted by a pause or a stop"


@workflow.defn(name=MERGE_WORKFLOW)
class MergeMirror(SteeredLoop[MirrorRequest]):
    """Merge when the interval is over or somebody says so; tidy beside, compact between, and carry out orders."""

    name = MERGE_WORKFLOW
    kind = "mirror"
    starts = "MergeOnce, or `icefleet mirrors merge`, which start it"
    resumed_by = "icefleet mirrors resume"
    grace = timedelta(seconds=5)
    looks_aside = True

    def __init__(self) -> None:
        super().__init__(MirrorRequest(""))
        self._orders = Orders()
        self._due_at = 0.0
        """When the interval is over, in seconds since 1970."""
        self._woken = True
        self._woken_by: Cause = {}
        """The event that came last, if one did."""
        self._doing = ""
        self._last: MergeReport | None = None
        self._last_merge = ""
        self._waiting_since = 0.0
        """When a merge first found no changelog, in seconds since 1970; 0: the last one found it."""
        self._counts = dict.fromkeys(("merges", *COUNTED, "indexes_rebuilt"), 0)
        self._before = dict(self._counts)
        """What had been counted when a merge began for which somebody waits."""
        self._began = 0.0
        """When the last merge began, or what came in its place, in seconds since 1970."""
        self._failing = Lasting()
        """What merges have been failing with."""
        self._kept = Lasting()
        """The same of orders that are kept until they can be carried out."""
        self._compaction = Compaction()
        self._tidying = Tidying(self._mirror, self._show)
        self._told: dict[str, dict[str, str]] | None = None
        """What was published, as `MirrorTrouble` has it; None: a loop before this one may have left something."""
        self._telling = Runner("telling what is wrong", self._tell)

    @workflow.run
    async def run(self, *payloads: Any) -> None:
        """Run until the loop is told to stop, or continue as new when the history has grown."""
        await self._serve(payloads, mirror_id)

    # --- turns --------------------------------------------------------------------------------------------------

    @property
    def _due(self) -> bool:
        more = self._last is not None and self._last.more
        return self._woken or more or self._orders.merges_wait or workflow.time() >= self._due_at

    async def _turn(self) -> None:
        due = self._due
        if self._compaction.has_its_turn(merge_due=due):
            began = workflow.time()
            try:
                await self._compact(self._compaction.due)
            except ActivityError as failure:
                self._compaction.failed_with(failure, began)
        elif due:
            with acting_for(self._orders.merge_cause or self._woken_by):
                await self._merge()
        else:
            await self._rest()

    async def _rest(self) -> None:
        try:
            left = max(self._due_at - workflow.time(), 0.0)
            await workflow.wait_condition(lambda: self._heard, timeout=left)
        except TimeoutError:
            return

    async def _merge(self) -> None:
        if not self._orders.merging:
            self._before = dict(self._counts)
        self._orders.begin_merge()
        self._woken, woken_by = False, self._woken_by
        asked, began = self._asked, workflow.time()
        self._began = began
        work = workflow.execute_activity_method(
            MirrorActivities.merge_mirror,
            MergeInput(asked.environment, asked.mirror, TURN_SECONDS),
            summary=f"after {self._last.watermark}" if self._last and self._last.watermark else "merge",
            **MERGE,
        )
        report: MergeReport | None = await self._interruptible(self._shown("merging", work))
        if report is None:
            self._woken = True
            await self._orders.answer_merges(self._refusal() or OrderReport("failed", INTERRUPTED))
            return
        self._failing.over()
        rest = report.interval_seconds
        self._due_at = began + (min(rest, WAITS_LONG_SECONDS) if report.waiting_for else rest)
        self._take(report)
        if not report.more:
            if self._woken_by is woken_by:  # else an event has come meanwhile, and the next merge is on its behalf
                self._woken_by = {}
            await self._orders.answer_merges(self._answer(report))

    def _count(self, report: MergeReport) -> None:
        for name in COUNTED:
            self._counts[name] += getattr(report, name)
        self._counts["indexes_rebuilt"] += bool(report.index_rebuilt)

    def _take(self, report: MergeReport) -> None:
        """Count what was done, and remember how far the mirror is."""
        self._last = report
        self._waiting_since = (self._waiting_since or workflow.time()) if report.waiting_for else 0.0
        self._last_merge = workflow.now().isoformat(timespec="milliseconds")
        self._counts["merges"] += 1
        self._count(report)
        self._compaction.merged(report)
        # Also after a merge that found nothing: what has become old meanwhile goes.
        if report.commits or not report.more:
            self._tidying.look()

    def _answer(self, last: MergeReport) -> OrderReport:
        """What came of a merge after which nothing is left to do."""
        mirror, done = self._asked.mirror, {name: self._counts[name] - self._before[name] for name in self._counts}
        if last.waiting_for:
            return OrderReport("failed", f"{mirror} waits: {last.waiting_for}", cause="BadConfig", who="user")
        up_to = f" up to changelog snapshot {last.watermark}" if last.watermark else ""
        rows = f"{done['upserted']:,} rows upserted and {done['deleted']:,} deleted in {done['commits']:,} commits"
        return OrderReport(
            "done", f"{mirror} has everything{up_to}: {rows if done['commits'] else 'nothing was left to merge'}"
        )

    async def _compact(self, why: str, *, thorough: bool = False) -> CompactReport | None:
        asked = replace(self._mirror(), thorough=thorough)
        work = workflow.execute_activity_method(MirrorActivities.compact_mirror, asked, summary=why[:150], **COMPACT)
        report: CompactReport | None = await self._unless_interrupted(self._shown("compacting", work))
        if report is not None:
            self._compaction.ended(report)
            self._tidying.look()
        return report

    async def _shown(self, doing: str, work: Awaitable[T]) -> T:
        """What goes on, for as long as it does, is what the loop says of itself."""
        self._doing = doing
        self._show()
        try:
            return await work
        finally:
            self._doing = ""

    # --- trouble ------------------------------------------------------------------------------------------------

    def _trouble_of(self, cause: str, message: str, who: str) -> Trouble:
        if cause in HELD:
            self._failing.over()  # which is told at once, and of what went before it nobody knows
        else:
            self._failing.failed(self._began, cause, message)
        return Trouble(cause, message, who, for_good=cause in HELD)

    @property
    def _held(self) -> Trouble | None:
        """The trouble that only a person can end."""
        return self._trouble if self._trouble is not None and self._trouble.for_good else None

    def _show(self) -> None:
        super()._show()
        if workflow.in_workflow() and self._told != self._wrong():
            self._telling.look()

    def _wrong(self) -> dict[str, dict[str, str]]:
        """All that somebody must mend, as `MirrorTrouble` has it."""
        before = (self._told or {}).get("merge", {})
        passing = {**self._kept.told, **self._failing.told}
        # Other words for what was told are no news.
        merge = {cause: before.get(cause, detail) for cause, detail in passing.items()}
        if self._waiting_since and self._last and workflow.time() >= self._waiting_since + WAITS_LONG_SECONDS:
            merge["Waiting"] = f"Waiting: {self._last.waiting_for}"
        if (held := self._held) is not None:
            merge[held.cause] = f"{held.cause}: {held.message}"
        upkeep = {"compaction": self._compaction.failing.told, "tidying": self._tidying.failing.told}
        return {
            "merge": merge,
            "upkeep": {work: "; ".join(sorted(causes.values())) for work, causes in upkeep.items() if causes},
        }

    async def _tell(self) -> None:
        wrong = self._wrong()
        if wrong == self._told:
            return
        named = ", ".join(name for found in wrong.values() for name in found)
        await workflow.execute_activity_method(
            MirrorActivities.tell_trouble,
            self._what_is_wrong(wrong),
            summary=named or "nothing is wrong",
            **ANNOUNCE,
        )
        self._told = wrong

    def _what_is_wrong(self, wrong: dict[str, dict[str, str]]) -> MirrorTrouble:
        return MirrorTrouble(self._asked.environment, self._asked.mirror, **wrong)

    async def _look_aside(self) -> None:
        """Have lag and trouble told again, and remember the lag, while no merge does."""
        if not self._paused and self._held is None:
            return  # a merge is tried again now
        looking, _ = await self._until(
            lambda: self._heard,
            workflow.execute_activity_method(
                MirrorActivities.watch_mirror, self._what_is_wrong(self._wrong()), **WATCH_MIRROR
            ),
        )
        if looking.cancelled():
            return
        failure = looking.exception()
        if failure is None:
            lag = looking.result()
            if self._last is not None:
                self._last = replace(self._last, lag_events=lag.events, lag_seconds=lag.seconds)
        elif not isinstance(failure, ActivityError):
            raise failure
        elif not is_cancelled_exception(failure):
            # As of a lost watermark, behind which nobody can tell what waits.
            workflow.logger.warning("a mirror could not be looked at: %s", failure.cause)

    async def _settle(self) -> None:
        await self._tidying.stop()
        await self._telling.stop()

    async def _leave(self) -> None:
        await self._orders.answer_all(OrderReport("failed", "the loop was told to stop before it came to this"))

    # --- people -------------------------------------------------------------------------------------------------

    @workflow.signal(name=MERGE_SIGNAL)
    def merge(self, *payloads: Any) -> None:
        """Merge what is there now; a changelog's event says so without an order, and waits for no answer."""
        if payloads:
            self._orders.hear(MERGE_SIGNAL, payloads)
        else:
            self._woken_by = cause()
        self._woken = self._heard = True

    @workflow.signal(name=REBUILD_SIGNAL)
    def rebuild_index(self, *payloads: Any) -> None:
        """Make the index anew."""
        self._orders.hear(REBUILD_SIGNAL, payloads)
        self._heard = True

    @workflow.signal(name=COMPACT_SIGNAL)
    def compact(self, *payloads: Any) -> None:
        """Compact now."""
        self._orders.hear(COMPACT_SIGNAL, payloads)
        self._heard = True

    @workflow.signal(name=BOOTSTRAP_SIGNAL)
    def bootstrap(self, *payloads: Any) -> None:
        """Begin again from the changelog as it is now."""
        self._orders.hear(BOOTSTRAP_SIGNAL, payloads)
        self._heard = True

    @workflow.signal(name=MAINTAIN_SIGNAL)
    def maintain(self, *payloads: Any) -> None:
        """Let go of whatever is old, and say what that was."""
        self._orders.hear(MAINTAIN_SIGNAL, payloads)
        self._heard = True

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self, *_: Any) -> None:
        """Go on at once, after a pause or when something was mended."""
        super().resume()
        self._failing.over()
        self._kept.over()
        self._orders.hasten()
        self._woken = True

    async def _obey(self) -> None:
        await self._orders.answer_known()
        refusal = self._refusal()
        if refusal is not None and (self._paused or self._held):
            await self._orders.answer_merges(refusal, also_waiting=True)
        elif refusal is not None and self._orders.merges_wait:
            self._trouble = None  # somebody wants it now, and will hear what is wrong
        while not self._stopping and (asked := self._next_order()) is not None:
            with acting_for(asked.order.cause):
                report = await self._carry_out(asked)
                if report is not None:
                    await self._orders.answer(asked, report)
        if not self._orders.failing:
            self._kept.over()

    def _next_order(self) -> Asked | None:
        # While the loop is paused each is refused, also what would be tried again later.
        return self._orders.next(math.inf if self._paused else workflow.time())

    def _refusal(self) -> OrderReport | None:
        """Why nothing is merged now; None when nothing is in its way."""
        if self._paused:
            return OrderReport("failed", f"{self._asked.mirror} is paused; {self.resumed_by} has it go on", who="user")
        if self._trouble is not None:
            trouble = self._trouble
            rest = f"; when that is mended, {self.resumed_by} has it go on" if trouble.for_good else ""
            return OrderReport("failed", f"{trouble.message}{rest}", cause=trouble.cause, who=trouble.who)
        return None

    async def _carry_out(self, asked: Asked) -> OrderReport | None:
        """Do what only an order brings about; also in trouble, which it may end. None: it is tried again later."""
        if self._paused and (refusal := self._refusal()) is not None:
            return refusal
        what = asked.what
        done: CompactReport | MergeReport | TidyReport | None
        try:
            if what == MAINTAIN_SIGNAL:
                work = self._tidying.thoroughly(dry_run=asked.order.dry_run)
                done = await self._unless_interrupted(self._shown("tidying", work))
            else:
                done = await (self._compact_all() if what == COMPACT_SIGNAL else self._remake(asked))
        except ActivityError as failure:
            return self._failed(asked, failure)
        if done is None:
            return OrderReport("failed", INTERRUPTED, who="user")
        if isinstance(done, TidyReport):
            counts = {"expired": done.expired, "deleted": done.deleted, "freed": done.bytes}
            return OrderReport("done", tidied(self._asked.mirror, done), counts=counts, problem=done.problem)
        if isinstance(done, CompactReport):
            return OrderReport("done", f"{done.files_before:,} files became {done.files_after:,}")
        return OrderReport("done", f"{what} of {self._asked.mirror} is done")

    async def _compact_all(self) -> CompactReport | None:
        """Whatever can be better, however many turns that takes."""
        before = after = 0
        while (report := await self._compact("ordered", thorough=True)) is not None:
            before, after = before + report.files_before, after + report.files_after
            if not report.more:
                return replace(report, files_before=before, files_after=after)
        return None

    def _failed(self, asked: Asked, failure: ActivityError) -> OrderReport | None:
        """What to answer. None: it may pass, and has outlasted all attempts; a merge has its turn, then the order."""
        cause, message, who = cause_of(failure)
        if asked.what not in REMADE or failure.retry_state != RetryState.MAXIMUM_ATTEMPTS_REACHED:
            return OrderReport("failed", message, cause=cause, who=who)
        self._kept.failed(self._began, cause, message)
        self._rest_with(self._held or Trouble(cause, message, who))
        self._orders.postpone(asked, self._again_at)
        self._woken = True
        return None

    async def _remake(self, asked: Asked) -> MergeReport | None:
        again = asked.what == BOOTSTRAP_SIGNAL
        self._began = workflow.time()
        work = workflow.execute_activity_method(
            MirrorActivities.bootstrap_mirror if again else MirrorActivities.rebuild_index,
            self._mirror(),
            task_queue=(await queues_of(self._asked.environment)).mirrors,
            summary="ordered",
            **REMAKE,
        )
        doing = "beginning again" if again else "making the index anew"
        report: MergeReport | None = await self._unless_interrupted(self._shown(doing, work))
        if report is None:
            return None
        if again:
            self._take(report)
        else:
            self._count(report)  # it says nothing of how far the mirror is
            self._tidying.look()
        self._woken = True  # a merge tells how far the mirror is now
        if again:
            self._failing.over()
        if again or (asked.again_at and not self._held):
            self._trouble = None
        return report

    # --- state --------------------------------------------------------------------------------------------------

    def _mirror(self) -> MirrorInput:
        return MirrorInput(self._asked.environment, self._asked.mirror)

    def _load(self, carried: dict[str, Any]) -> None:
        self._orders.load(carried["orders"])
        self._due_at = carried["due_at"]
        # A signal may have come before this, which is newer.
        self._woken = carried["woken"] or self._heard
        self._woken_by = self._woken_by or carried.get("woken_by", {})
        self._last = None if carried["last"] is None else MergeReport(**carried["last"])
        self._last_merge = carried["last_merge"]
        self._waiting_since = carried.get("waiting_since", 0.0)
        self._failing = Lasting(**carried["failing"])
        self._kept = Lasting(**carried["kept"])
        self._counts |= carried["counts"]
        self._before |= carried["before"]
        self._compaction = Compaction.load(carried["compaction"])
        self._tidying.load(carried["tidying"])
        self._told = carried["told"]

    def _dump(self) -> dict[str, Any]:
        last = self._last
        return {
            "doing": self._doing,
            "watermark": last.watermark if last is not None else "",
            "lag_events": last.lag_events if last is not None else 0,
            "lag_seconds": last.lag_seconds if last is not None else 0.0,
            "last_merge": self._last_merge,
            "waiting_since": self._waiting_since,
            "last": None if last is None else asdict(last),
            "counts": dict(self._counts),
            "before": dict(self._before),
            "due_at": self._due_at,
            "woken": self._woken,
            "woken_by": self._woken_by,
            "failing": self._failing.dump(),
            "kept": self._kept.dump(),
            "compaction": asdict(self._compaction),
            "tidying": self._tidying.dump(),
            "orders": self._orders.dump(),
            "told": self._told,
        }

    def _lines(self) -> list[str]:
        counts, last = self._counts, self._last
        lines = [f"- {self._doing}"] if self._doing else []
        if last is not None and last.waiting_for:
            lines.append(f"- waits: {last.waiting_for}")
        elif last is not None:
            lag = f"{last.lag_events:,} changes, {last.lag_seconds:,.0f} s" if last.lag_events else "none"
            lines.append(
                f"- merged up to changelog snapshot {last.watermark or 'none'} at {self._last_merge}; lag {lag}"
            )
        lines.append(
            f"- {counts['scanned']:,} changes in {counts['commits']:,} commits: {counts['upserted']:,} rows upserted, "
            f"{counts['deleted']:,} deleted, {counts['superseded']:,} changes superseded, {counts['refused']:,} refused"
        )
        compaction = self._compaction
        lines += [f"- an order is tried again: {said}" for said in self._kept.said.values()]
        lines += [f"- compaction is due: {compaction.due}"] if compaction.due else []
        lines += [f"- compaction failed: {compaction.failed}"] if compaction.failed else []
        lines += [f"- tidying: {self._tidying.problem}"] if self._tidying.problem else []
        return lines
