"""Values of every type as text that PostgreSQL takes: the ends of their ranges, and what is easily mistaken."""

import json
import re
from random import Random
from uuid import UUID

from cdcrandom.tables import LARGE

WORDS = (
    "", " ", "plain", "NULL", "null", "\\N", "\\.", "it's", 'a "quoted" one', "two\nlines", "a\r\nb", "tab\there",
    "a,b;c", "{}", "[1]", "\\x00", "back\\slash", "snow ☃ rocket 🚀", "e\u0301 and é", "0", "-",
    "'; DROP TABLE x; --", "true",
)  # fmt: skip
KEYS = ("eu", "us", "o'neil", "a|b", "b", "a", "", 'q"q')
MOODS = ("fine", "so so", 'it\'s "bad"')
FLOATS = ("0", "-0", "NaN", "Infinity", "-Infinity", "1.1", "-2.5", "0.1")
POISON = "infinity"
"""A time that no Iceberg table can hold."""


def value_for(rng: Random, name: str, kind: str) -> str | None:
    """A value for a column, NULL now and then; columns called `big_…` get large ones."""
    if rng.random() < 0.12:
        return None
    if name == "share":  # the column of a domain that has a check
        return f"{rng.randrange(10001) / 100:.2f}"
    if name.startswith("big_") and rng.random() < 0.75:
        return _large(rng, kind)
    return _of_kind(rng, kind)


def key_for(rng: Random, kind: str) -> str:
    """A value for a column of a key: of few, so that keys come again."""
    if kind == "text":
        return rng.choice(KEYS)
    if kind == "uuid":
        return str(UUID(int=rng.randrange(400)))
    return str(rng.randrange(400))


def _large(rng: Random, kind: str) -> str:
    size = rng.randrange(LARGE + 500, 5 * LARGE)
    noise = rng.randbytes(size)
    if kind == "bytea":
        return "\\x" + noise.hex()
    text = noise.hex()[:size]
    return json.dumps({"text": text, "n": [1, None]}) if kind == "jsonb" else rng.choice(WORDS) + text


def _of_kind(rng: Random, kind: str) -> str:
    if kind.endswith("[]"):
        return _array(rng, kind[:-2])
    name, _, arguments = kind.partition("(")
    limits = [int(one) for one in re.findall(r"\d+", arguments)]
    if name == "numeric" and limits:
        return _exact(rng, *limits)
    if name in ("character varying", "character"):
        return rng.choice(WORDS)[: limits[0]]
    return MAKERS[name](rng)


def _array(rng: Random, kind: str) -> str:
    elements = []
    for _ in range(rng.randrange(4)):
        text = _of_kind(rng, kind)
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        elements.append("NULL" if rng.random() < 0.2 else f'"{escaped}"')
    return "{" + ",".join(elements) + "}"


def _exact(rng: Random, precision: int, scale: int = 0) -> str:
    digits = rng.choice((1, precision, rng.randrange(1, precision + 1)))
    number = f"{rng.randrange(10**digits):0{scale + 1}d}"
    return rng.choice(("", "-")) + number[: len(number) - scale] + "." + number[len(number) - scale :]


def _whole(bits: int) -> "Maker":
    ends = (0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)))
    return lambda rng: str(rng.choice((*ends, rng.randrange(-999, 999))))


def _date(rng: Random) -> str:
    year = rng.choice((1901, 1969, 1970, 2000, 2024, 2298))
    return f"{year:04}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"


def _clock(rng: Random) -> str:
    fraction = rng.choice((".999999", ".5", "", ".000001"))
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}{fraction}"


def _instant(rng: Random) -> str:
    return f"{_date(rng)} {_clock(rng)}{rng.choice(('+00', '-08', '+05:45'))}"


def _json(rng: Random) -> str:
    inner = {"b": rng.choice(WORDS), "a": [1, 2.50, None, True], rng.choice(WORDS): {}}
    return rng.choice((json.dumps(inner), '{"b" : 1,  "a":[1, 2]}', "null", '"text"', "[]", "12.50", "1e3"))


Maker = type(_json)
MAKERS = {
    "smallint": _whole(16),
    "integer": _whole(32),
    "bigint": _whole(64),
    "real": lambda rng: rng.choice((*FLOATS, "3.4028235e+38", "1e-45", f"{rng.uniform(-9, 9):.4}")),
    "double precision": lambda rng: rng.choice(
        (*FLOATS, "1.7976931348623157e+308", "5e-324", repr(rng.uniform(-9, 9)))
    ),
    "numeric": lambda rng: rng.choice(("0", "1.50", "-12345678901234567890.123456789", "NaN", "1e40", "0.000")),
    "boolean": lambda rng: rng.choice(("true", "false")),
    "text": lambda rng: rng.choice(WORDS),
    "date": _date,
    "timestamp without time zone": lambda rng: f"{_date(rng)} {_clock(rng)}",
    "timestamp with time zone": _instant,
    "time without time zone": _clock,
    "time with time zone": lambda rng: f"{_clock(rng)}{rng.choice(('+00', '-08', '+05:45'))}",
    "interval": lambda rng: rng.choice(("1 year 2 mons -3 days 04:05:06.7", "00:00:00", "-1 days", "100 years")),
    "mood": lambda rng: rng.choice(MOODS),
    "json": _json,
    "jsonb": _json,
    "bytea": lambda rng: "\\x" + rng.randbytes(rng.choice((0, 1, 3, 40))).hex(),
    "inet": lambda rng: rng.choice(("10.0.0.1", "10.1.2.3/24", "::1", "fe80::1/64")),
    "cidr": lambda rng: rng.choice(("10.0.0.0/8", "::/0")),
    "int4range": lambda rng: rng.choice(("[1,5)", "empty", "(,3]", "[7,)")),
    "bit varying": lambda rng: rng.choice(("", "1", "10101010")),
    "uuid": lambda rng: str(UUID(int=rng.getrandbits(128))),
}
