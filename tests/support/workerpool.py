"""Worker processes that die where they are told to, and are replaced."""

import asyncio
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from deploy.local.parts import WORKER_READY
from support import forks
from support.fleet import Fleet, eventually

READY_SECONDS = 180
STOP_SECONDS = 30
"""How long a worker may take to leave once it is told to."""


class Pool:
    """`size` workers at any time. Each takes the next of `deaths` along, until all have happened.

    A death is a failpoint, and the how-manieth time it is reached: `after-upload:3`.
    """

    def __init__(self, fleet: Fleet, deaths: Sequence[str], *, size: int, say: Callable[[str], None]) -> None:
        self.kills: Counter[str] = Counter()
        """Failpoint → workers that it has killed."""
        self.exits: Counter[str] = Counter()
        """How workers ended that no failpoint killed."""
        self.living: list[forks.Process] = []
        self.dying: list[str] = []
        """Failpoints at which workers that live will die."""
        self.dead: dict[int, float] = {}
        """Process id of every worker that has ended → when, by the monotonic clock."""
        self.done = asyncio.Event()
        """Set when every death has happened."""
        self._fleet = fleet
        self._deaths = deque(deaths)
        self._outstanding = len(deaths)
        self._size = size
        self._say = say
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers, and return when as many of them take work."""
        before = self._ready()
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(self._size)]
        await eventually(lambda: self._ready() >= before + self._size, seconds=READY_SECONDS)

    def _ready(self) -> int:
        """How many workers have ever said that they are ready."""
        return sum(WORKER_READY.encode() in log.read_bytes() for log in self._fleet.directory.glob("worker-*.log"))

    async def stop(self) -> None:
        """Tell every worker to leave, and wait until all have left; one that does not is killed, and noted so."""
        self._ending = True
        self._send(signal.SIGTERM)
        if self._tasks and (await asyncio.wait(self._tasks, timeout=STOP_SECONDS))[1]:
            self._send(signal.SIGKILL)
        await asyncio.gather(*self._tasks)

    def retire(self) -> None:
        """Tell the worker that has lived longest to leave: another gets what it did, and its death is still to come."""
        for process in self.living[:1]:
            process.send_signal(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self.living:
            process.send_signal(number)

    async def _keep(self) -> None:
        """One worker after the other."""
        while not self._ending:
            await self._run(self._deaths.popleft() if self._deaths else "")

    async def _run(self, death: str) -> None:
        point = death.partition(":")[0]
        with self._fleet.worker_process(failpoint=death) as process:
            self.living.append(process)
            self.dying.append(point)
            try:
                await asyncio.to_thread(process.wait)
            finally:
                self.living.remove(process)
                self.dying.remove(point)
                self.dead[process.pid] = time.monotonic()
        if death and process.returncode == -signal.SIGKILL:
            self.kills[point] += 1
            self._say(f"a worker was killed at {death}")
            self._outstanding -= 1
            if not self._outstanding:
                self.done.set()
            return
        ending = signal.Signals(-process.returncode).name if process.returncode < 0 else f"exit {process.returncode}"
        self.exits[ending] += 1
        self._say(f"a worker ended with {ending}")
        if death:
            self._deaths.append(death)  # it ended for another reason, and this death is still to come
