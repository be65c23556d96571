"""Spans of files that PyArrow reads and writes: one for each file while it is open, whatever requests that takes."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Self, TypeVar, cast

from opentelemetry.trace import Span
from pyiceberg.io import FileIO, InputStream, OutputStream
from pyiceberg.io.pyarrow import PyArrowFile
from pyiceberg.utils.concurrent import ExecutorFactory

from activities import spans

READ, WRITE = "objectstore read", "objectstore write"
S = TypeVar("S", InputStream, OutputStream)
T = TypeVar("T")


class TracedFile(PyArrowFile):
    """A file of PyIceberg's; what nobody traces is Arrow's own stream."""

    def open(self, seekable: bool = True) -> InputStream:  # noqa: FBT001, FBT002 - PyIceberg's own signature
        """Open it to be read."""
        return _told(READ, self.location, lambda: super(TracedFile, self).open(seekable))

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: FBT001, FBT002 - the same
        """Open it to be written."""
        return _told(WRITE, self.location, lambda: super(TracedFile, self).create(overwrite))


def traced(file: PyArrowFile) -> TracedFile:
    """The same file, that tells."""
    return TracedFile(file.location, file._path, file._filesystem, file._buffer_size)  # noqa: SLF001 - as it was made


@contextlib.contextmanager
def reading(io: FileIO, path: str) -> Iterator[Any]:
    """A file while it is read, in Arrow's own kind of stream, which its C++ reads without asking Python."""
    with spans.request(READ, **{"icefleet.object": path}):
        file = io.new_input(path)
        with PyArrowFile.open(file) if isinstance(file, PyArrowFile) else file.open() as source:
            yield source


@contextlib.contextmanager
def writing(io: FileIO, path: str) -> Iterator[Any]:
    """The same while it is written; what lies there is replaced."""
    with spans.request(WRITE, **{"icefleet.object": path}):
        file = io.new_output(path)
        create = partial(PyArrowFile.create, file) if isinstance(file, PyArrowFile) else file.create
        with create(overwrite=True) as sink:
            yield sink


def _told(name: str, path: str, begin: Callable[[], S]) -> S:
    span = spans.start(name, **{"icefleet.object": path})
    if not span.is_recording():
        return begin()
    try:
        return cast(S, _Stream(begin(), span))
    except BaseException as failed:
        spans.end(span, type(failed).__name__)
        raise


class _Stream:
    """A stream of Arrow's; when it is closed, its span ends."""

    def __init__(self, stream: Any, span: Span) -> None:
        self._stream = stream
        self._span: Span | None = span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end("" if kind is None else kind.__name__)

    def close(self) -> None:
        self._end("")

    def _end(self, failed: str) -> None:
        span, self._span = self._span, None
        try:
            self._stream.close()
        except BaseException as wrong:
            failed = type(wrong).__name__
            raise
        finally:
            if span is not None:
                spans.end(span, failed)


class TracedPool(ThreadPoolExecutor):
    """Threads that know on whose behalf they work."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do it within the caller's context."""
        return super().submit(copy_context().run, fn, *args, **kwargs)


def trace_threads() -> None:
    """Have PyIceberg's own threads be such, in which it reads and writes manifests."""
    ExecutorFactory._instance = TracedPool(ExecutorFactory.max_workers())  # noqa: SLF001 - there is no other way in
    ExecutorFactory._instance_pid = os.getpid()  # noqa: SLF001
