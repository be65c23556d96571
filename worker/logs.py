"""Logs: JSON for machines, lines for people, and in every line what it belongs to."""

import logging
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog
from opentelemetry import trace
from temporalio import activity, workflow
from temporalio.runtime import LogForwardingConfig, LoggingConfig, TelemetryFilter

from activities.contracts.causes import current
from worker.hidden import SECRETS

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMATS = ("json", "console")
CHATTY = ("botocore", "aiobotocore", "pyiceberg", "urllib3", "aiohttp", "clickhouse_connect", "nats", "sentry_sdk")


def problems_of_logs(variables: Mapping[str, str]) -> list[str]:
    """What is wrong with LOG_LEVEL and LOG_FORMAT."""
    wrong = []
    for name, known in (("LOG_LEVEL", LEVELS), ("LOG_FORMAT", FORMATS)):
        value = variables.get(name, "")
        if value and value.casefold() not in {one.casefold() for one in known}:
            wrong.append(f"{name} must be one of {', '.join(known)}; it is {value!r}")
    return wrong


def set_up_logs(variables: Mapping[str, str], *, secrets: Collection[str] = (), service: str = "") -> None:
    """One line an event on standard error; libraries' loggers go the same way.

    `secrets` are values that are hidden wherever they would be written, beside those that are read later.
    """
    for secret in secrets:
        SECRETS.learn(secret)
    shown = variables.get("LOG_FORMAT", "").casefold() or ("console" if sys.stderr.isatty() else "json")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _traced,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if service and shown == "json":
        shared.append(lambda _, __, event: {**event, "service": service})
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendered(shown),
                hiding(SECRETS.hide),
            ],
        )
    )
    logging.basicConfig(level=variables.get("LOG_LEVEL", "").upper() or "INFO", handlers=[handler], force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Temporal's own loggers would say once more, in the message, what every line says of itself.
    activity.logger.activity_info_on_message = False
    workflow.logger.workflow_info_on_message = False


def core_logging() -> LoggingConfig:
    """What Temporal's core has to say goes the same way as all else, for `temporalio.runtime.TelemetryConfig`."""
    here = LogForwardingConfig(logging.getLogger("temporalio.core"), prepend_target_on_message=False)
    return LoggingConfig(filter=TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding=here)


def _rendered(shown: str) -> list[structlog.typing.Processor]:
    if shown == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    # Rich tracebacks would show local variables, and what is secret among them.
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def ids_of(span: trace.Span) -> dict[str, str]:
    """The ids of a span and its trace as they are written; nothing for one that has none."""
    ids = span.get_span_context()
    return {"trace_id": f"{ids.trace_id:032x}", "span_id": f"{ids.span_id:016x}"} if ids.is_valid else {}


def _traced(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The ids of the current span, or of what a workflow's code is doing, over those that are bound."""
    told = ids_of(trace.get_current_span())
    if not told and len(parts := current().get("traceparent", "").split("-")) == 4:  # noqa: PLR2004 - W3C
        told = {"trace_id": parts[1], "span_id": parts[2]}
    event.update(told)
    return event


def hiding(hide: Callable[[str], str]) -> structlog.typing.Processor:
    """The last step of a log line: no secret is in it, however it came there."""

    def hidden(_: Any, __: str, line: Any) -> Any:
        return hide(line) if isinstance(line, str) else line

    return hidden
