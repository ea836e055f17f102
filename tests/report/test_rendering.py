"""A page as one file: nothing in it becomes markup, its policy lets its own scripts run alone."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from genjax.errors import ConfigError
from genjax.report import page, rendering
from genjax.report.page import (
    Bars,
    Chart,
    Chip,
    Facts,
    Frame,
    Note,
    Page,
    Points,
    Section,
    Series,
    Sheets,
    Table,
)

HOSTILE = '</script><img src=x onerror="hacked()">\u2028\'"&{{ 7 * 7 }}\x1b[2J\ud800'
PIXEL = "data:image/png;base64,AAAA"


def every_block(text):
    """A page with each kind of block, all of whose texts are the same."""
    frame = Frame(text, PIXEL, 1, 1, 5)
    blocks = [
        Facts([(text, text)], text, 0.5),
        Note(text, text, text, "alarm"),
        Table([text, text], [[text, text]], text, frozenset({0}), text, folded=True),
        Chart(text, [Series(text, [1, 2], [0.5, math.nan], floor=0.1)], text, text, [(1, text)]),
        Sheets(text, [frame, frame], text),
        Points(text, [(0, 0), (1, 1)], [0, 1], [text, text], text),
        Bars(text, [(text, 1.0, text)], text),
    ]
    section = Section("all", text, blocks, text)
    return Page(text, [section], [Chip(text, "good")], text)


class Elements(HTMLParser):
    """The elements of a document, and the text of each script and style."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.texts.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.found and self.inside:
            self.texts[-1] = (*self.texts[-1][:2], self.texts[-1][2] + data)


def data_of(text):
    (found,) = [t for tag, a, t in Elements(text).texts if a.get("id") == "page-data"]
    return json.loads(found)


def test_no_text_becomes_markup():
    plain, hostile = (Elements(rendering.render(every_block(t))) for t in ("a", HOSTILE))
    assert [tag for tag, _ in plain.found] == [tag for tag, _ in hostile.found]
    for (_, ours), (_, theirs) in zip(plain.found, hostile.found, strict=True):
        assert ours.keys() == theirs.keys()  # nor an attribute
    text = rendering.render(every_block(HOSTILE))
    assert "{{ 7 * 7 }}" in text  # and no template
    assert "\x1b" not in text
    text.encode()  # no character without an encoding


def test_the_policy_names_the_scripts_and_styles_of_the_page():
    found = Elements(rendering.render(every_block("a")))
    (policy,) = [
        a["content"] for _, a in found.found if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    for _, attributes, text in found.texts:
        if attributes.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
    assert not any("style" in a or any(n.startswith("on") for n in a) for _, a in found.found)
    loads = [a.get("src") or a.get("href") for _, a in found.found if "src" in a or "href" in a]
    assert all(where.startswith(("data:image/", "#")) for where in loads)


def test_numbers_that_json_has_not_are_null():
    series = Series("a", [1, 2, 3], [math.inf, 1e300, -0.123456789], low=[math.nan, 0, 0])
    text = rendering.render(Page("p", [Section("s", "s", [Chart("c", [series])])]))
    (chart,) = data_of(text)["charts"].values()
    assert chart["series"][0]["y"] == [None, 1e300, -0.123457]
    assert chart["series"][0]["low"] == [None, 0, 0]


def test_long_curves_keep_their_extremes():
    y = np.sin(np.arange(100_000) / 1000)
    y[[31_415, 77_777]] = 50, -50
    series = Series("a", list(range(len(y))), y.tolist())
    text = rendering.render(Page("p", [Section("s", "s", [Chart("c", [series])])]))
    (chart,) = data_of(text)["charts"].values()
    drawn = chart["series"][0]
    assert len(drawn["y"]) <= rendering.MOST_POINTS + 2
    assert drawn["x"] == sorted(drawn["x"])
    assert (drawn["x"][0], drawn["x"][-1]) == (0, 99_999)
    assert (max(drawn["y"]), min(drawn["y"])) == (50, -50)


def test_a_page_without_pictures_is_small():
    x = list(range(1000))
    noise = np.random.default_rng(0).normal(size=(40, 1000)).tolist()
    charts = [Chart(f"c{i}", [Series("s", x, y)]) for i, y in enumerate(noise)]
    text = rendering.render(Page("p", [Section("s", "s", charts)]))
    assert len(text) < 1 << 20
    assert len(rendering.render(every_block("a"))) < 60_000  # scripts and styles


def test_texts_are_bounded():
    text = rendering.render(every_block("x" * 100_000))
    assert max(map(len, re.findall("x+", text))) < rendering.MOST_TEXT
    assert rendering.shown({"a": [1, None]}) == '{"a": [1, null]}'
    assert rendering.shown("a" * rendering.MOST_TEXT) == "a" * rendering.MOST_TEXT


def test_a_file_that_is_no_page_is_never_replaced(tmp_path):
    path = tmp_path / "report.html"
    rendering.save(path, rendering.render(every_block("first")))
    rendering.save(path, rendering.render(every_block("second")))
    assert "second" in path.read_text()
    mine = tmp_path / "mine.html"
    mine.write_text("<html>my own notes</html>")
    link = tmp_path / "link.html"
    link.symlink_to(path)
    for taken in (mine, link):
        with pytest.raises(ConfigError, match="give another --to"):
            rendering.save(taken, rendering.render(every_block("third")))
    assert mine.read_text() == "<html>my own notes</html>"
    assert "second" in path.read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "mine.html", "link.html"}


def test_points_fill_the_picture():
    drawn = page.Points("p", [(-5, 1), (5, 3), (0, 2)], [0, 11, 2]).drawn
    assert drawn == [(8, 292, 0), (392, 8, 1), (200, 150, 2)]
    assert page.Points("p", [(1, 1)], [0]).drawn == [(8, 292, 0)]
