"""Holding the work at a named point, so that a test may act while it is there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from activities import failpoints


class Gate:
    """Holds whoever comes by; `passed` counts them. Once opened it holds nobody."""

    def __init__(self, *, let_by: int = 0) -> None:
        self.passed = 0
        self._let_by = let_by
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def hold(self) -> None:
        """What the work does at the point."""
        self.passed += 1
        if self.passed > self._let_by:
            self._reached.set()
            await self._open.wait()

    async def reached(self, seconds: float = 90) -> None:
        """Wait until somebody is held."""
        await asyncio.wait_for(self._reached.wait(), seconds)

    def let_by(self) -> None:
        """Let everybody by from now on, but those who are held."""
        self._let_by = 1_000_000

    def open(self) -> None:
        """Let everybody by."""
        self._open.set()


@asynccontextmanager
async def gate_at(point: str, *, let_by: int = 0) -> AsyncIterator[Gate]:
    """A gate at a failpoint of the workers in this process, which lets the first `let_by` by; open at the end."""
    gate = Gate(let_by=let_by)
    failpoints.arm(point, gate.hold)
    try:
        yield gate
    finally:
        gate.open()
        failpoints.disarm()


@asynccontextmanager
async def failing_at(point: str, fault: Callable[[], Exception], *, times: int = 1_000) -> AsyncIterator[list[str]]:
    """Whoever comes by a failpoint fails with `fault()`, the first `times` of them; lists those who did."""
    failed: list[str] = []

    async def fail() -> None:
        if len(failed) < times:
            failed.append(point)
            raise fault()

    failpoints.arm(point, fail)
    try:
        yield failed
    finally:
        failpoints.disarm()
