"""Where a partition's file lives: the keys that the public already uses, nothing padded."""

import re
from datetime import date

from activities.core.faults import BadConfig, BadRequest
from activities.core.partitions import bounds_of, day_of, index_of
from activities.core.tables import TableConfig

_PREFIX = "xatu"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_SHORT_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_NUMBER = r"(0|[1-9]\d{0,18})"
_KEYS = {
    "daily": re.compile(rf"{_NUMBER}/{_NUMBER}/{_NUMBER}(?:-([0-9a-f]{{8}}))?\.parquet", re.ASCII),
    "hourly": re.compile(rf"{_NUMBER}/{_NUMBER}/{_NUMBER}/{_NUMBER}(?:-([0-9a-f]{{8}}))?\.parquet", re.ASCII),
    "integer": re.compile(rf"{_NUMBER}/{_NUMBER}(?:-([0-9a-f]{{8}}))?\.parquet", re.ASCII),
}
_FORMS = {
    "daily": "{YYYY}/{M}/{D}.parquet",
    "hourly": "{YYYY}/{M}/{D}/{H}.parquet",
    "integer": "{chunk size}/{start}.parquet",
}
_HOURS_PER_DAY = 24


def public_key(config: TableConfig, network: str, index: int) -> str:
    """The object key under which the public finds a partition.

    Daily `…/{YYYY}/{M}/{D}.parquet`, hourly `…/{YYYY}/{M}/{D}/{H}.parquet`, integer `…/{chunk size}/{start}.parquet`,
    all under `xatu/{network}/databases/{database}/{table}/`.

    Raises:
        BadConfig: A name cannot be part of a key and its URL.
    """
    return f"{_stem(config, network, index)}.parquet"


def index_of_key(config: TableConfig, network: str, key: str) -> int | None:
    """The partition that the public finds under a key; None for every other key, such as that of a replacement.

    Raises:
        BadConfig: A name cannot be part of a key and its URL.
    """
    rule = config.partition
    parts = key.removeprefix(table_prefix(config, network)).removesuffix(".parquet").split("/")
    try:
        if rule.kind == "integer":
            index = int(parts[-1]) // rule.chunk_size
        else:
            hours = int(parts[3]) if rule.kind == "hourly" else 0
            day = (date(*(int(part) for part in parts[:3])) - date(1970, 1, 1)).days
            index = day if rule.kind == "daily" else day * _HOURS_PER_DAY + hours
        return index if index >= 0 and public_key(config, network, index) == key else None
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


def replacement_key(config: TableConfig, network: str, index: int, short_id: str) -> str:
    """The key of a file that replaces a partition's committed one: beside it, with an id of 8 hex digits.

    Raises:
        BadConfig: A name cannot be part of a key, or the id has another form.
    """
    if not _SHORT_ID.fullmatch(short_id):
        raise BadConfig(f"{config.name}: {short_id!r} is no id of a replacement: 8 lower-case hex digits are")
    return f"{_stem(config, network, index)}-{short_id}.parquet"


def read_key(config: TableConfig, network: str, key: str) -> tuple[int, str]:
    """The partition that a key names, and the id of a replacement (else empty): `public_key` backwards.

    Raises:
        BadRequest: no partition of this table has that key. Padded numbers are none of ours: `2024/03/20.parquet`
            would be a second name of a partition.
    """
    prefix, rule = table_prefix(config, network), config.partition
    found = _KEYS[rule.kind].fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if found is None:
        raise BadRequest(f"{key} is no key of a partition: they are {prefix}{_FORMS[rule.kind]}, nothing padded")
    *numbers, short_id = found.groups(default="")
    if rule.kind == "integer":
        size, start = (int(number) for number in numbers)
        if size != rule.chunk_size or start % rule.chunk_size:
            raise BadRequest(f"{key} is no key of a partition: {config.name} is cut into chunks of {rule.chunk_size}")
        return index_of(rule, str(start)), short_id
    year, month, day, *hours = (int(number) for number in numbers)
    hour = "".join(f"T{hour:02d}" for hour in hours)
    return index_of(rule, f"{year:04d}-{month:02d}-{day:02d}{hour}"), short_id


def partition_of(config: TableConfig, network: str, key: str) -> int | None:
    """The partition that a key names, be it a replacement's; None where `read_key` refuses it."""
    try:
        return read_key(config, network, key)[0]
    except BadRequest:
        return None


def table_prefix(config: TableConfig, network: str) -> str:
    """What every key of one table begins with, and no key of another: it ends with a slash.

    Raises:
        BadConfig: A name cannot be part of a key.
    """
    names = (
        _name(config, "network", network),
        "databases",
        _name(config, "database", config.database),
        _name(config, "table", config.name),
    )
    return "/".join((_PREFIX, *names, ""))


def _stem(config: TableConfig, network: str, index: int) -> str:
    return table_prefix(config, network) + "/".join(_place(config, index))


def _place(config: TableConfig, index: int) -> tuple[str, ...]:
    rule = config.partition
    if index < 0:
        raise BadConfig(f"{config.name}: partition {index} lies before the first that has a key")
    if rule.kind == "integer":
        return str(rule.chunk_size), str(bounds_of(rule, index)[0])
    day = day_of(rule, index)
    parts = (str(day.year), str(day.month), str(day.day))
    return parts if rule.kind == "daily" else (*parts, str(index % _HOURS_PER_DAY))


def _name(config: TableConfig, what: str, name: str) -> str:
    # A key is a public URL as well: what needs no escape there cannot leave its prefix either.
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadConfig(
            f"{config.name}: {what} {name!r} cannot be part of an object key: "
            "use letters, digits, '_', '-' and single dots, and no dot or '-' in front"
        )
    return name
