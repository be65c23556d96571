"""What was read of files that never change, as far as there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class Remembered(Generic[V]):
    """Path → what the file holds, up to a total weight; what was not wanted for longest goes. Threads may share it."""

    def __init__(self, limit: int, weight: Callable[[V], int]) -> None:
        self._limit = limit
        self._weight = weight
        self._held = 0
        self._values: OrderedDict[str, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, read: Callable[[], V]) -> V:
        """What is remembered, or else what `read` answers, which is remembered then."""
        with self._lock:
            if path in self._values:
                self._values.move_to_end(path)
                return self._values[path]
        found = read()
        self.put(path, found)
        return found

    def put(self, path: str, value: V) -> None:
        """Remember what a file holds that was just written."""
        weight = self._weight(value)
        with self._lock:
            if path in self._values or weight > self._limit:
                return
            self._values[path] = value
            self._held += weight
            while self._held > self._limit:
                _, gone = self._values.popitem(last=False)
                self._held -= self._weight(gone)
