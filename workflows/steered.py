"""What loops that people steer have in common: one workflow id, orders by signal, and faults that wait."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.contracts.causes import acting_for
from activities.contracts.cdc import PAUSE_SIGNAL, RESUME_SIGNAL, STOP_SIGNAL
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, PROGRESS_QUERY
from activities.contracts.inputs import bad_request, read_only_input, write_input
from workflows.door import told
from workflows.failures import cause_of


class LoopRequest(Protocol):
    """What every loop is started with, beside what it works on."""

    @property
    def environment(self) -> str:
        """Where."""

    @property
    def turns_per_run(self) -> int:
        """After so many turns the loop continues as new."""

    @property
    def carried(self) -> dict[str, Any] | None:
        """What a long run hands to its successor."""


T = TypeVar("T")
AnyRequest = TypeVar("AnyRequest", bound=LoopRequest)

TRY_AGAIN = timedelta(minutes=1)
"""How long a loop rests after a fault that its activity does not try again, unless somebody has mended it before."""

BAD_REQUEST = "BadRequest"
"""The fault of something that config does not have, or not so. What it had once may come back."""


@dataclass(frozen=True)
class Trouble:
    """Why a loop does not go on."""

    cause: str
    message: str
    who: str
    for_good: bool = False
    """Whether only a person can say when to try again."""


class SteeredLoop(ABC, Generic[AnyRequest]):
    """A loop that does its work in turns, until it is told to stop.

    Orders are heard at once: what is under way gets `grace` to end by itself and is then cancelled, which loses
    nothing.
    """

    name: str
    kind: str
    """What the loop works on, such as `pipeline`; its request has a field of that name."""
    starts: str
    """What people may start instead of the loop itself, in words."""
    resumed_by: str
    """The command that has a loop go on."""
    grace = timedelta(0)
    looks_aside = False
    """Whether `_look_aside` is called every minute while the loop rests."""

    def __init__(self, unasked: AnyRequest) -> None:
        self._asked = unasked
        self._paused = False
        self._stopping = False
        self._heard = False
        self._resumed = False
        self._trouble: Trouble | None = None
        self._again_at = 0.0
        """When a turn that ended in trouble is tried again, in seconds since 1970."""
        self._turns = 0
        self._accepted = False
        """Whether a turn has ended in another way than that its request cannot be."""

    # --- what a loop says of itself -----------------------------------------------------------------------------

    @abstractmethod
    async def _turn(self) -> None:
        """Do the next piece of work, within `_interruptible`."""

    @abstractmethod
    def _load(self, carried: dict[str, Any]) -> None:
        """Take over from the run before this one."""

    @abstractmethod
    def _dump(self) -> dict[str, Any]:
        """What the next run takes over."""

    @abstractmethod
    def _lines(self) -> list[str]:
        """The state as Markdown lines."""

    async def _look_aside(self) -> None:
        """Look after what the work leaves alone while the loop rests."""

    async def _settle(self) -> None:
        """End what goes on beside the turns; the next run begins it again."""

    async def _leave(self) -> None:
        """End what the loop has begun elsewhere; nobody comes after it."""

    # --- the loop -----------------------------------------------------------------------------------------------

    async def _serve(self, payloads: tuple[Any, ...], identity: Callable[[str, str], str]) -> None:
        self._open(payloads, identity)
        # No `finally` that waits: coroutines of a run that left the worker's cache are closed where nothing can.
        try:
            while not self._stopping:
                await self._step()
            await self._leave()
        except asyncio.CancelledError:
            await self._settle()
            raise
        await self._settle()

    async def _step(self) -> None:
        self._heard = False
        self._show()
        if self._turns >= self._asked.turns_per_run or workflow.info().is_continue_as_new_suggested():
            await self._settle()
            if self._stopping:
                return
            # Nothing is awaited between this look at what has arrived and the end: a later signal is the next run's.
            with acting_for({}):
                workflow.continue_as_new(args=[{**write_input(self._asked), "carried": self._carried()}])
        with acting_for({}):
            await self._obey()
        if not self._stopping and await self._rested():
            self._turns += 1
            with acting_for({}):  # what a turn does is a trace of its own: the loop has no end
                await self._turn()

    async def _rested(self) -> bool:
        """Rest while the loop is paused or in trouble; False when something was heard meanwhile, to be looked at."""
        trouble = self._trouble
        if not self._paused and trouble is None:
            return True
        for_good = self._paused or (trouble is not None and trouble.for_good)
        # However much is heard meanwhile, it neither hastens nor delays the next try.
        left = timedelta(seconds=self._again_at - workflow.time())
        if not for_good and left <= timedelta(0):
            return True
        self._show()
        try:
            at_rest = TRY_AGAIN if self.looks_aside else None
            await workflow.wait_condition(lambda: self._heard, timeout=at_rest if for_good else left)
        except TimeoutError:
            if self.looks_aside:
                self._turns += 1
                with acting_for({}):
                    await self._look_aside()
            return not for_good
        return False

    async def _interruptible(self, work: Awaitable[T]) -> T | None:
        """The work's answer; None when an order interrupted it, or when it ended in trouble, which is remembered.

        Raises:
            ApplicationError: `BadRequest`, of a loop that never did anything: whoever started it asks in vain.
        """
        try:
            report = await self._unless_interrupted(work)
        except ActivityError as failure:
            cause, message, who = cause_of(failure)
            if cause == BAD_REQUEST and not self._accepted:
                raise told(failure) from failure
            self._accepted = True
            self._rest_with(self._trouble_of(cause, message, who))
            return None
        if report is not None:
            self._trouble, self._accepted = None, True
        return report

    async def _unless_interrupted(self, work: Awaitable[T]) -> T | None:
        """The work's answer; None when an order interrupted it.

        Raises:
            ActivityError: it failed by itself.
        """
        running, interrupted = await self._until(lambda: self._interrupts, work)
        if running.cancelled():
            return None
        failure = running.exception()
        if failure is None:
            return running.result()
        # What was interrupted may end in any way, as when its worker died meanwhile; the next turn will tell.
        if isinstance(failure, ActivityError) and (interrupted or is_cancelled_exception(failure)):
            return None
        raise failure

    async def _until(self, heard: Callable[[], bool], work: Awaitable[T]) -> tuple[asyncio.Future[T], bool]:
        """The work when it has ended, and whether it was made to, since something was heard."""
        running = asyncio.ensure_future(work)
        try:
            await workflow.wait_condition(lambda: running.done() or heard())
            if not running.done() and self.grace:
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(running.done, timeout=self.grace)
        except asyncio.CancelledError:
            await _ended(running)
            raise
        interrupted = not running.done()
        await _ended(running)
        return running, interrupted

    async def _obey(self) -> None:
        """Carry out what people have asked for between two turns."""

    def _trouble_of(self, cause: str, message: str, who: str) -> Trouble:
        return Trouble(cause, message, who)

    def _rest_with(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._again_at = workflow.time() + TRY_AGAIN.total_seconds()

    @property
    def _interrupts(self) -> bool:
        """Whether somebody has given an order that must not wait for the end of the turn."""
        return self._paused or self._stopping

    # --- input and state ----------------------------------------------------------------------------------------

    def _open(self, payloads: tuple[Any, ...], identity: Callable[[str, str], str]) -> None:
        asked = read_only_input(type(self._asked), payloads)
        self._asked = asked
        self._accepted = asked.carried is not None
        expected = identity(asked.environment, self._called)
        if workflow.info().workflow_id != expected:
            raise ApplicationError(
                f"{self.name} runs only as {expected!r}, so that a {self.kind} has one; this is "
                f"{workflow.info().workflow_id!r}. Start {self.starts}",
                type="WrongDoor",
                non_retryable=True,
            )
        if asked.turns_per_run < 1:
            raise bad_request(f"field 'turns_per_run' must be at least 1; it is {asked.turns_per_run}")
        if asked.carried is not None:
            self._take_over(asked.carried)
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(asked.environment)])

    def _take_over(self, carried: dict[str, Any]) -> None:
        try:
            if not self._resumed:  # by a signal that this run has heard already, which is newer
                self._paused = self._paused or carried["paused"]
                self._trouble = None if carried["trouble"] is None else Trouble(**carried["trouble"])
            # Runs that began before this was handed over wait from now on.
            self._again_at = carried.get("again_at", workflow.time() + TRY_AGAIN.total_seconds())
            self._load(carried)
        except (AttributeError, KeyError, TypeError) as wrong:
            raise bad_request(
                f"field 'carried' is what a run hands to its successor, and this is not: {wrong!r}; leave it out"
            ) from wrong

    def _carried(self) -> dict[str, Any]:
        return {
            "paused": self._paused,
            "trouble": None if self._trouble is None else asdict(self._trouble),
            "again_at": self._again_at,
            **self._dump(),
        }

    # --- people -------------------------------------------------------------------------------------------------

    @workflow.signal(name=PAUSE_SIGNAL)
    def pause(self, *_: Any) -> None:
        """Begin nothing more until `resume`."""
        self._paused = self._heard = True
        self._resumed = False

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self, *_: Any) -> None:
        """Go on at once, after a pause or when something was mended."""
        self._paused = self._stopping = False
        self._resumed = self._heard = True
        self._trouble = None

    @workflow.signal(name=STOP_SIGNAL)
    def stop(self, *_: Any) -> None:
        """End the loop."""
        self._stopping = self._heard = True

    @property
    def _called(self) -> str:
        """What the loop works on."""
        return str(getattr(self._asked, self.kind))

    @property
    def state(self) -> str:
        """`running`, `paused`, `waiting` (for a fault to be mended) or `stopping`."""
        if self._stopping:
            return "stopping"
        if self._paused:
            return "paused"
        return "running" if self._trouble is None else "waiting"

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """The loop's state, what troubles it, and what it has done."""
        return {
            self.kind: self._called,
            "state": self.state,
            "trouble": None if self._trouble is None else asdict(self._trouble),
            **self._dump(),
        }

    def _show(self) -> None:
        """The same for people: the current details that the Temporal UI renders."""
        if not workflow.in_workflow():
            return  # the coroutines of a run that left the worker's cache are closed outside of it
        trouble = [] if self._trouble is None else [f"- {self._words(self._trouble)}"]
        workflow.set_current_details(
            "\n".join([f"**{self._asked.environment}.{self._called}**: {self.state}", *trouble, *self._lines()])
        )

    def _words(self, trouble: Trouble) -> str:
        rest = f"goes on when it is told to ({self.resumed_by})" if trouble.for_good else "tried again every minute"
        return f"{trouble.cause}: {trouble.message} (who must act: {trouble.who}; {rest})"


async def _ended(running: asyncio.Future[Any]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
