"""Kinds of values that config files hold: how each is read, and what is said of a wrong one."""

import datetime as dt
import re
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
)
from pydantic_core import PydanticCustomError

from activities.core.faults import BadConfig
from activities.core.iceberg_types import parse_iceberg

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_PATTERN = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_PUBLIC_URL = re.compile(r"https?://[^/?#'\s]+(?:/[^/?#'\s]+)*")
_DURATION = re.compile(r"(?:\d{1,6}[smhdw])+", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


def _wrong(message: str) -> PydanticCustomError:
    # braces would be taken for places to fill in
    return PydanticCustomError("said", "{message}", {"message": message})


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise _wrong(f"{value!r} cannot be a name: letters, digits, `_` and `-` only, not starting with `-`")
    return value


def whole(value: Any) -> Any:
    """An integer, never a truth or a fraction that passes for one."""
    if isinstance(value, bool | float):
        raise _wrong(f"expected a whole number, not {str(value).lower()}")
    return value


def _day(value: Any) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(f"expected a date such as 2024-03-20, not {str(value)!r}") from None


def lag_text(value: Any) -> str:
    """The text of a lag, whose meaning depends on the kind of its table."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(f"expected a duration such as 2h or a number of blocks, not {value!r}")
    return str(value).strip()


def _iceberg_type(value: Any) -> str:
    try:
        parse_iceberg(str(value))
    except BadConfig:
        raise _wrong(f"{value!r} is no Iceberg type; such as long, string, decimal(20,0) or fixed[66]") from None
    return str(value)


def _pattern(value: Any) -> str:
    if not isinstance(value, str) or not _PATTERN.fullmatch(value):
        raise _wrong(
            f"{value!r} is no pattern: words of lower-case letters and digits, joined by `_`, such as geo_city"
        )
    return value


def listed(value: Any) -> Any:
    """A list, also of one name that was written without its brackets."""
    return [value] if isinstance(value, str) else value


def _no_login(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong("expected an address")
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise _wrong("holds a login; name a variable with one of the `*_env` keys instead")
    return value


def _public_url(value: Any) -> str:
    if not value:
        return ""
    if not _PUBLIC_URL.fullmatch(_no_login(value)):
        # what stands in a query may be a secret: never repeat it
        raise _wrong("expected an http:// or https:// address without a query, and without a slash at its end")
    return str(value)


def duration_seconds(value: Any) -> int:
    """The seconds of a text such as 30s, 10m, 7d or 1h30m, or of `0`.

    Raises:
        PydanticCustomError: it is something else.
    """
    text = str(value)
    if isinstance(value, bool) or not (text == "0" or _DURATION.fullmatch(text)):
        raise _wrong(f"expected a duration such as 30s, 10m or 1h30m, not {value!r}")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", text))


def _duration(value: Any) -> int:
    plain = str(value)
    if not isinstance(value, bool) and plain.isascii() and plain.isdigit():
        return int(plain)
    return duration_seconds(value)


def _positive_duration(value: Any) -> int:
    seconds = _duration(value)
    if not seconds:
        raise _wrong(f"must be at least 1s, and is {value!r}")
    return seconds


Name = Annotated[str, PlainValidator(_name)]
Whole = Annotated[int, BeforeValidator(whole)]
Positive = Annotated[int, BeforeValidator(whole), Field(gt=0)]
Count = Annotated[int, BeforeValidator(whole), Field(ge=0)]
Port = Annotated[int, BeforeValidator(whole), Field(gt=0, lt=65536)]
Text = Annotated[str, Field(min_length=1)]
Address = Annotated[str, PlainValidator(_no_login)]
PublicUrl = Annotated[str, PlainValidator(_public_url)]
Day = Annotated[dt.date, PlainValidator(_day), PlainSerializer(str, when_used="json")]
IcebergTypeName = Annotated[str, PlainValidator(_iceberg_type)]
Pattern = Annotated[str, PlainValidator(_pattern)]
Duration = Annotated[int, PlainValidator(_duration)]
"""In seconds; written as such, or as 90s, 1h, 7d."""
PositiveDuration = Annotated[int, PlainValidator(_positive_duration)]


class Part(BaseModel):
    """A part of the config: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
