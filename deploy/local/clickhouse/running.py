"""The queries that clients have open, by the id they know them by."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from deploy.local.clickhouse.engine import EngineConnection
from deploy.local.clickhouse.faults import QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING, EngineError, cancelled

T = TypeVar("T")


class Running:
    """One query: whether somebody killed it, and whether the engine has let go of it."""

    def __init__(self, query_id: str) -> None:
        self.query_id = query_id
        self.killed = asyncio.Event()
        self.gone = asyncio.Event()

    async def unless_killed(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, unless the query is killed first.

        Raises:
            EngineError: the query was killed (394); `work` is cancelled then.
        """
        task = asyncio.ensure_future(work)
        killed = asyncio.ensure_future(self.killed.wait())
        try:
            await asyncio.wait((task, killed), return_when=asyncio.FIRST_COMPLETED)
            if self.killed.is_set():
                raise cancelled()
            return await task
        finally:
            killed.cancel()
            task.cancel()


class Registry:
    """All running queries."""

    def __init__(self) -> None:
        self._queries: dict[str, Running] = {}

    def enter(self, query_id: str) -> Running:
        """Register a query.

        Raises:
            EngineError: a query with this id is running (216).
        """
        if query_id in self._queries:
            raise EngineError(
                QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                f"Query with id = {query_id} is already running. (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)",
            )
        running = self._queries[query_id] = Running(query_id)
        return running

    def leave_when_closed(self, running: Running, connection: EngineConnection) -> None:
        """Close the query's connection, and forget the query once the engine has let go of it."""
        loop = asyncio.get_running_loop()
        connection.close().add_done_callback(lambda _: loop.call_soon_threadsafe(self._forget, running))

    def _forget(self, running: Running) -> None:
        del self._queries[running.query_id]
        running.gone.set()

    def ids(self) -> list[str]:
        """The ids of all running queries."""
        return list(self._queries)

    def kill(self, query_ids: list[str]) -> list[Running]:
        """Wake the requests of these queries, so that a slow client does not keep them; those that are still there."""
        found = [self._queries[query_id] for query_id in query_ids if query_id in self._queries]
        for running in found:
            running.killed.set()
        return found
