"""What config asks of a source, held against what the source allows its user: queries at once, and settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from activities.core.settings import NEWER_SETTINGS, PINNED_SETTINGS
from activities.core.source_check import Finding

USER_FENCES = ("max_concurrent_queries_for_user", "max_concurrent_queries_for_all_users")
SERVER_FENCES = ("max_concurrent_queries", "max_concurrent_select_queries")
"""Settings that bound the queries of a user, of all users, of a server; in each 0 means without bound."""
NO_SETTINGS_AT_ALL = "1"
"""The value of `readonly` under which a user may send no setting with a query."""


@dataclass(frozen=True)
class Allowed:
    """A setting as `system.settings` shows it to the user: its value, and what the user may make of it."""

    value: str
    low: str | None = None
    high: str | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Load:
    """What config may send to one source."""

    source: str
    """`<environment>.<cluster>`."""
    workers: int
    export_slots: int
    lookup_slots: int
    limits: Mapping[str, int]
    """Settings by which config limits every query."""

    @property
    def queries(self) -> int:
        """The most queries that the whole fleet can have there at once."""
        return self.workers * (self.export_slots + self.lookup_slots)

    def __str__(self) -> str:
        slots = f"({self.export_slots} export slots + {self.lookup_slots} lookup slots)"
        return f"{self.workers} workers x {slots} can send {self.queries} at once"


def check_load(load: Load, user: Mapping[str, Allowed], server: Mapping[str, str]) -> list[Finding]:
    """Everything that config asks and the source does not allow.

    Args:
        load: What config may send.
        user: The user's own settings, by name; those that the source does not know are absent.
        server: The server's settings, by name; empty when this user may not see them.
    """
    return [*_check_fences(load, user, server), *_check_settings(load, user)]


def _check_fences(load: Load, user: Mapping[str, Allowed], server: Mapping[str, str]) -> Iterator[Finding]:
    fences = {name: user[name].value for name in USER_FENCES if name in user}
    fences |= {name: server[name] for name in SERVER_FENCES if name in server}
    for name, text in fences.items():
        allowed = _number(text)
        if allowed and allowed < load.queries:
            yield Finding(
                "",
                "",
                f"the source {load.source} runs at most {text} queries at once ({name}), and {load}",
                "lower export.max_workers, or export_slots or lookup_slots of the cluster, in environments.yaml, "
                "or have the source allow more; until then queries wait for each other",
            )


def _check_settings(load: Load, user: Mapping[str, Allowed]) -> Iterator[Finding]:
    mode = user.get("readonly")
    if mode is not None and mode.value == NO_SETTINGS_AT_ALL:
        problem = f"the user of the source {load.source} is readonly = 1 and can send no settings with its queries"
        yield Finding("", "", problem, "give it readonly = 2, under which it still changes nothing")
        return
    for name, limit in load.limits.items():
        way_out = f"change {name} of the cluster in environments.yaml, or have the source allow it"
        yield from _check_setting(load.source, name, str(limit), user.get(name), way_out)
    for name, pinned in PINNED_SETTINGS.items():
        if name in user or name not in NEWER_SETTINGS:
            way_out = "have the source allow it: without it a profile could shorten or reshape what is exported"
            yield from _check_setting(load.source, name, str(pinned), user.get(name), way_out)


def _check_setting(source: str, name: str, wanted: str, allowed: Allowed | None, way_out: str) -> Iterator[Finding]:
    if allowed is None:
        # One that is no longer shown is obsolete at the source, and taken without effect.
        return
    number, low, high = _number(wanted), _number(allowed.low), _number(allowed.high)
    wrong = ""
    if allowed.fixed and allowed.value != wanted:
        wrong = f"does not let its user change {name} from {allowed.value!r}"
    elif number is not None and high is not None and number > high:
        wrong = f"allows {name} up to {allowed.high}"
    elif number is not None and low is not None and number < low:
        wrong = f"allows {name} from {allowed.low}"
    if wrong:
        yield Finding("", "", f"the source {source} {wrong}, and queries send {wanted!r}", way_out)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
