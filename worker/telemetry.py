"""Logs for people and machines, and trace ids for everything that is done."""

import logging
import sys

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider


def set_up_logs(*, level: int = logging.INFO) -> None:
    """One line an event: coloured on a terminal, JSON elsewhere. Libraries' loggers go the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
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
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "aiobotocore", "pyiceberg", "urllib3", "aiohttp", "clickhouse_connect", "nats"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def set_up_traces(environment: str) -> None:
    """Give every activity a trace id, which commits and events then carry; spans are kept nowhere by default."""
    resource = Resource.create({"service.name": "icefleet", "deployment.environment.name": environment})
    trace.set_tracer_provider(TracerProvider(resource=resource))
