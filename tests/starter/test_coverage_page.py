"""The coverage page: small, self-contained, escaped, and whole for whoever has no script or no sight."""

import json
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from activities.core.coverage import STATES, Coverage, Run, runs_of, sentence
from activities.core.partitions import index_of, span_of
from activities.core.tables import PartitionRule
from starter.coverage_page import LETTERS, MOST_RUNS, coverage_page, encode

PAGES = Path(__file__).parents[2] / "starter/pages"

MADE = datetime(2026, 11, 21, 4, 5, tzinfo=UTC)
NETWORKS = ("mainnet", "sepolia", "holesky", "hoodi")
DAYS = PartitionRule("daily", "at")
HOURS = PartitionRule("hourly", "at")
CHUNKS = PartitionRule("integer", "number", chunk_size=1000)
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """What a browser makes of a page: elements in order, attributes, text; broken nesting is refused."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": "", "inside": [e["tag"] for e in self._open]})
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [
            one
            for one in self.elements
            if one["tag"] == tag and attributes.items() <= {k.strip("_"): v for k, v in one["attrs"].items()}.items()
        ]


def seen(name="blocks", network="mainnet", rule=DAYS, first=None, runs=(("there", 3),), **more):
    first = span_of(rule, "2024-03-01", "2024-03-01").first if first is None else first
    return Coverage(name, network, rule, first=first, runs=tuple(Run(*run) for run in runs), asked=True, **more)


def page(*ones, environment="production"):
    return coverage_page(ones, environment, MADE, asked=True)


def data_of(text):
    return json.loads(Page(text).all("script", id="data")[0]["text"])


def decode(text):
    return [
        Run(next(state for state in STATES if LETTERS[state] == letter), int(count or "1", 36))
        for letter, count in re.findall("([A-Z])([0-9a-z]*)", text)
    ]


def fleet_of_tables(noise):
    """87 tables on 4 networks over three years, cut as Xatu's are, with so much `noise` among what is there."""
    drawn = random.Random(7)
    for number in range(87):
        rule = HOURS if number % 20 == 3 else CHUNKS if number % 5 == 1 else DAYS
        count = {"daily": 1095, "hourly": 26_280, "integer": 8_000}[rule.kind]
        for network in NETWORKS:
            states = drawn.choices(STATES, [noise, 10 - 6 * noise, *([noise] * 5)], k=count)
            first = 0 if rule is CHUNKS else None
            name = f"beacon_api_eth_v1_events_something_{number}"
            yield seen(name, network, rule, first, [(run.state, run.count) for run in runs_of(states)])


@pytest.mark.parametrize("noise", [0, 0.08], ids=["as it should be", "5 of 100 are not"])
def test_all_tables_on_4_networks_over_3_years_are_a_page_of_less_than_500_kb(noise):
    text = page(*fleet_of_tables(noise))
    assert len(text.encode()) < 500_000
    assert len(Page(text).all("tr", role="row")) == 1 + 87 + 348


def test_runs_are_written_as_letters_and_counts_and_read_back():
    drawn = [
        ("there", 1095),
        ("missing", 1),
        ("there", 2),
        ("stale", 35),
        ("shrunk", 36),
        ("suspended", 1),
        ("open", 9),
    ]
    text = encode([Run(*run) for run in [*drawn, ("empty", 1)]])
    assert text == "TufMT2SzL10PO9E"
    assert decode(text) == [Run(*run) for run in [*drawn, ("empty", 1)]]


def test_the_page_holds_every_run_of_every_table():
    days = seen(runs=[("there", 30), ("missing", 2), ("open", 1)])
    chunks = seen("chunks", rule=CHUNKS, first=7, runs=[("empty", 5), ("stale", 100)])
    data = data_of(page(days, chunks))
    march = index_of(DAYS, "2024-03-01")
    assert data["rows"] == [[0, 86_400, march, march + 33, "TuM2O"], [2, 1000, 7, 112, "E5S2s"]]
    assert [data["states"][letter]["name"] for letter in data["states"]] == list(STATES)


def test_too_many_runs_are_drawn_coarser_and_counted_exactly():
    hours = seen(rule=HOURS, first=index_of(HOURS, "2024-03-01T00"), runs=[("there", 1), ("missing", 1)] * MOST_RUNS)
    chunks = seen("chunks", rule=CHUNKS, first=0, runs=[("there", 1), ("empty", 1)] * MOST_RUNS)
    text = page(hours, chunks)
    march = index_of(DAYS, "2024-03-01")
    assert data_of(text)["rows"] == [[0, 86_400, march, march + 125, "M3h", 24], [2, 2000, 0, 1500, "T15o", 2]]
    assert "1,500 of 3,000 there; 1,500 missing" in text


def test_nothing_comes_from_elsewhere_and_nothing_that_is_not_of_the_page_may_run():
    text = page(seen())
    assert not re.search(r"""(?:src|href|url|@import|action)\s*[=(]?\s*["']?(?:https?:)?//""", text)
    assert {one["attrs"]["href"][:1] for one in Page(text).all("a")} == {"#"}
    [policy] = [one["attrs"]["content"] for one in Page(text).all("meta") if "http-equiv" in one["attrs"]]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "hostile", ['</script><script>alert("1")</script>', "<b onload='x'>&amp;\"", "{{data}}", "<!--"]
)
def test_whatever_a_name_holds_is_text(hostile):
    parsed = Page(page(seen(hostile, network=hostile), environment=hostile))
    assert hostile in parsed.all("h1")[0]["text"]
    assert parsed.all("h3")[0]["text"] == hostile
    assert parsed.all("option")[1]["text"] == hostile
    assert data_of(page(seen(hostile), environment=hostile))["environment"] == hostile
    assert len(parsed.all("script")) == 2
    assert parsed.all("tr", role="row")[2]["attrs"]["id"] == f"{hostile}.{hostile}"


def test_without_a_script_each_table_says_in_words_what_is_there():
    one = seen(runs=[("there", 812), ("missing", 2), ("there", 1), ("missing", 6), ("open", 1)])
    row = Page(page(one, seen("other"))).all("tr", id="mainnet.blocks")[0]
    assert sentence(one) == "813 of 821 there; 8 missing: 2026-05-22 … 2026-05-23, 2026-05-25 … 2026-05-30; 1 open"
    assert row["text"] == f"mainnet{sentence(one)}99.02 %2026-05-24"


def test_a_hundred_percent_means_all():
    text = page(seen(runs=[("there", 99_999), ("missing", 1)]), seen("other"))
    assert "99.99 %" in text
    assert text.count("100 %") == 1


def test_what_could_not_be_looked_at_says_so_and_no_host_is_named():
    away = Coverage("blocks", "mainnet", DAYS, trouble="catalog http://10.0.0.1 did not answer")
    part = seen("other", trouble="ClickHouse production.default (10.0.0.2:8443) cannot be reached")
    text = page(away, part)
    assert "10.0.0" not in text
    assert "it could not be looked at" in text
    assert "3 of 3 there; its source could not be asked" in text
    assert "2 could not be looked at in full" in text


def test_the_page_says_of_what_it_is_and_when_it_was_made():
    parsed = Page(page(seen()))
    assert parsed.all("title")[0]["text"] == "Coverage of production"
    [made] = parsed.all("time")
    assert (made["attrs"]["datetime"], made["text"]) == ("2026-11-21T04:05:00Z", "2026-11-21 04:05")


def test_headings_labels_and_tables_make_sense_without_sight():
    parsed = Page(page(seen(), seen("other", "sepolia")))
    assert parsed.all("html")[0]["attrs"]["lang"] == "en"
    levels = [int(one["tag"][1]) for one in parsed.elements if re.fullmatch("h[1-6]", one["tag"])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
    for field in [*parsed.all("input"), *parsed.all("select")]:
        assert "label" in field["inside"]
    for cell in parsed.all("th"):
        assert cell["attrs"].get("scope") in {"col", "row", "rowgroup"}
    identifiers = [one["attrs"]["id"] for one in parsed.elements if "id" in one["attrs"]]
    assert len(identifiers) == len(set(identifiers))
    assert parsed.all("noscript")


def palettes():
    """The colours of the light and the dark page."""
    style = (PAGES / "coverage.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return {name: dict(re.findall(r"--(\w+): (#\w+);", text)) for name, text in (("light", light), ("dark", dark))}


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_as_wcag_aa_asks(theme):
    colours = palettes()[theme]
    for ground in ("bg", "raised"):
        for text in ("text", "soft", "link"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for state in STATES:
            assert contrast(colours[LETTERS[state]], colours[ground]) >= 3, (state, ground)


def test_states_differ_by_shape_and_not_by_colour_alone():
    script = (PAGES / "coverage_tables.js").read_text()
    shapes = dict(re.findall(r"([A-Z]): (\[\[.*?\]\])", script))
    assert set(shapes) == set(LETTERS.values())
    assert len(set(shapes.values())) == len(STATES)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_browser_draws_the_strips_and_opens_the_table_that_the_address_names(tmp_path):
    ones = [seen(network=name, runs=[("there", 30), ("missing", 2), ("open", 1)]) for name in NETWORKS]
    file = tmp_path / "coverage.html"
    file.write_text(page(*ones), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    ended = subprocess.run(
        [*command, f"{file.as_uri()}#sepolia.blocks"], capture_output=True, text=True, timeout=60, check=True
    )
    drawn = Page(ended.stdout.strip())
    assert len([one for one in drawn.all("path") if one["attrs"]["class"] == "M"]) == len(NETWORKS)
    assert drawn.all("output", id="shown")[0]["text"] == "4 of 4 shown"
    cells = [one["attrs"]["aria-label"] for one in drawn.all("td", role="gridcell") if "aria-label" in one["attrs"]]
    assert (len(cells), cells[0], cells[30]) == (33, "2024-03-01: there", "2024-03-31: missing")
    [details] = drawn.all("tr", id="details-sepolia.blocks")
    assert "icefleet export blocks -n sepolia -e production --from 2024-03-31 --to 2024-04-01 --wait" in details["text"]
