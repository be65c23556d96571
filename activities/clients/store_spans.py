"""Spans of what an object store is asked, from botocore's own events."""

from typing import Any

from activities import spans

_SPAN = "icefleet_span"


def trace_requests(client: Any) -> None:
    """Let every call of an S3 client be a span of the activity that makes it; its retries are within."""
    client.meta.events.register("before-call.s3", _begin)
    client.meta.events.register("after-call.s3", _answered)
    client.meta.events.register("after-call-error.s3", _failed)


def _begin(model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # The object's key is what one looks for, and no secret.
    path = str(params.get("url_path", "")).partition("?")[0]
    context[_SPAN] = spans.start(f"objectstore {model.name}", **{"icefleet.object": path})


def _answered(http_response: Any, context: dict[str, Any], **_: Any) -> None:
    span, status = context.pop(_SPAN, None), int(http_response.status_code)
    if span is not None:
        span.set_attribute("http.response.status_code", status)
        # What is absent, or there already, is an answer that was asked for.
        spans.end(span, f"HTTP {status}" if status >= 500 else "")  # noqa: PLR2004 - HTTP's own border


def _failed(exception: BaseException, context: dict[str, Any], **_: Any) -> None:
    span = context.pop(_SPAN, None)
    if span is not None:
        spans.end(span, type(exception).__name__)
