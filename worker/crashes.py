"""Crashes go to Sentry, when SENTRY_DSN says where: what only we can mend, and nothing that may hold a secret."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, is_cancelled_exception

from activities.contracts.export import WHO_MUST_ACT
from activities.core.faults import Fault
from worker.hidden import hidden_in

FLUSH_SECONDS = 3
_REPORTED = "_icefleet_reported"
_reporter: "_Reporter | None" = None


def set_up_crashes(dsn: str, *, environment: str, service: str, version: str, hide: Callable[[str], str] = str) -> None:
    """Report crashes from now on; without a DSN nothing is loaded, and nothing is reported.

    `hide` takes secrets out of texts: of everything that is sent, messages of libraries among it.

    Raises:
        ValueError: the DSN is none.
    """
    global _reporter  # noqa: PLW0603 - a process has one place that its crashes go to
    _reporter = _Reporter(dsn, environment=environment, service=service, version=version, hide=hide) if dsn else None


def is_crash(failed: BaseException) -> bool:
    """Whether it is ours to mend: no fault of a user's or an operator's, nothing of everyday, no cancellation."""
    if isinstance(failed, asyncio.CancelledError | KeyboardInterrupt | SystemExit) or is_cancelled_exception(failed):
        return False
    if isinstance(failed, Fault):
        return failed.actor == "us"
    if isinstance(failed, ApplicationError):
        details = failed.details[0] if failed.details else None
        who = details.get(WHO_MUST_ACT, "us") if isinstance(details, Mapping) else "us"
        return who == "us" and failed.category is not ApplicationErrorCategory.BENIGN
    return isinstance(failed, Exception)


def report(failed: BaseException, tags: Mapping[str, str]) -> None:
    """Report it, if it is a crash and somebody wants to hear of it."""
    if _reporter is not None and is_crash(failed) and _is_new(_origin(failed)):
        _reporter.send(_origin(failed), tags)


def report_apart(failed: BaseException, tags: Mapping[str, str]) -> None:
    """The same from within a workflow, whose thread must neither wait nor load anything."""
    if _reporter is not None and not _reporter.closed and is_crash(failed) and _is_new(failed):
        _reporter.apart.submit(_reporter.send, failed, tags)


def flush_crashes() -> None:
    """Wait until what was reported has been sent, for some seconds at most."""
    if _reporter is not None:
        _reporter.close()


def _is_new(failed: BaseException) -> bool:
    """Whether it has not been reported: what is raised on, or logged as well, is one crash."""
    if getattr(failed, _REPORTED, False):
        return False
    with contextlib.suppress(AttributeError):  # one that takes no attributes may come twice
        setattr(failed, _REPORTED, True)
    return True


def _origin(failed: BaseException) -> BaseException:
    """What an activity's failure was made of: its stack is the one to look at."""
    return failed.__cause__ if isinstance(failed, ApplicationError) and failed.__cause__ else failed


class _Reporter:
    def __init__(self, dsn: str, *, environment: str, service: str, version: str, hide: Callable[[str], str]) -> None:
        import sentry_sdk  # noqa: PLC0415 - only those who want it pay for it

        self._sdk = sentry_sdk
        self.closed = False
        self.apart = ThreadPoolExecutor(1, thread_name_prefix="icefleet-crashes")
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=version or None,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=True,
            # No one's person either: that is so by itself, and to say it here is deprecated.
            max_breadcrumbs=0,
            before_send=lambda event, _: hidden_in(event, hide),
            auto_session_tracking=False,
            shutdown_timeout=FLUSH_SECONDS,
        )
        sentry_sdk.get_global_scope().set_tag("service", service)
        logging.getLogger().addHandler(_Handler(logging.ERROR))

    def send(self, failed: BaseException, tags: Mapping[str, str]) -> None:
        with self._sdk.new_scope() as scope:
            for name, value in tags.items():
                if value:
                    scope.set_tag(name, value)
            scope.capture_exception(failed)

    def close(self) -> None:
        self.closed = True
        self.apart.shutdown()
        self._sdk.flush(FLUSH_SECONDS)


class _Handler(logging.Handler):
    """What is logged as an error with its exception is a crash as well, such as that of a task nobody waits for."""

    def emit(self, record: logging.LogRecord) -> None:
        failed: Any = record.exc_info[1] if record.exc_info else None
        if failed is not None:
            report_apart(failed, {"logger": record.name})
