"""Findings: what is printed, and what is read back from a file that may be a stranger's."""

import json
import math

import pytest

from genjax.evaluate.finding import Finding
from genjax.files import json_text

FINDING = Finding(
    "collapse",
    True,
    "the samples fill 3.1 of 20 regions, as many images of the data 17.2",
    "lower the learning rate of the generator",
    {"regions": 3.1, "odds": math.nan},
    n=64,
    n_reference=1000,
)


def test_a_finding_survives_json():
    again = Finding.from_dict({"step": 7, **json.loads(json_text(FINDING.as_dict()))})
    assert math.isnan(again.numbers["odds"])  # null in JSON
    assert {**again.as_dict(), "numbers": {}} == {**FINDING.as_dict(), "numbers": {}}
    assert again.numbers["regions"] == 3.1


def test_the_advice_is_printed_where_there_is_something_to_do():
    assert str(FINDING).splitlines() == [
        "collapse: found. the samples fill 3.1 of 20 regions, as many images of the data 17.2",
        "  lower the learning rate of the generator",
    ]
    values = FINDING.as_dict()
    silent = Finding.from_dict({**values, "found": False})
    assert "not found" in str(silent)
    assert "learning rate" not in str(silent)
    assert "cannot tell" in str(Finding.from_dict({**values, "found": False, "decided": False}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"found": 1},
        {"summary": None},
        {"numbers": {"regions": "3"}},
        {"numbers": [3]},
        {"n": True},
        {"error_rate": "0.01"},
    ],
)
def test_entries_of_another_type_raise(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"the entry {name} of a finding"):
        Finding.from_dict({**FINDING.as_dict(), **wrong})


def test_a_missing_decision_raises():
    with pytest.raises(ValueError, match="a finding has no found"):
        Finding.from_dict({"name": "collapse"})


def test_texts_of_a_stranger_are_bounded_and_printable():
    values = {**FINDING.as_dict(), "summary": "\x1b[31m" + "x" * 10_000, "numbers": {"a": 1e999}}
    found = Finding.from_dict(values)
    assert len(found.summary) == 2000
    assert "\x1b" not in found.summary
    assert math.isnan(found.numbers["a"])
