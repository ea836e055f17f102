"""The steps that no row of metrics has yet: means, kept to the bit, and never a stranger's."""

import json

import pytest

from genjax import files
from genjax.train.window import Window


def window_of(*values, start=0):
    window = Window(start)
    for value in values:
        window.add({"a": value}, images=8, seconds=0.5)
    return window


def test_a_row_is_the_mean_of_its_steps_with_their_speed_and_time():
    window = window_of(1.0, 4.0)
    window.add({"b": 3.0}, images=8, seconds=1.0)
    assert window.row() == {"a": 2.5, "b": 3.0, "images_per_second": 12.0, "seconds": 2.0}
    window.restart(3)
    assert (window.start, window.row()) == (3, {"seconds": 0.0})


def test_a_window_goes_on_to_the_bit_where_it_was_saved():
    values = [0.1, 1e9 + 0.1, 1 / 3, 1e-9]
    text = files.json_text(window_of(*values[:2]).as_dict())
    resumed = Window.from_dict(json.loads(text), 2)
    for value in values[2:]:
        resumed.add({"a": value}, images=8, seconds=0.5)
    assert resumed.row() == window_of(*values).row()


@pytest.mark.parametrize(
    "change",
    [
        {"start": 3},
        {"start": "0"},
        {"sums": {"a": None}},
        {"sums": [1.0]},
        {"counts": {"a": 0}},
        {"counts": {"b": 1}},
        {"seconds": float("nan")},
        {"images": -8},
        {"more": 1},
    ],
)
def test_a_window_of_another_form_counts_as_unknown(change):
    good = window_of(1.0).as_dict()
    assert Window.from_dict(good, 2).row()["a"] == 1.0
    unknown = Window.from_dict({**good, **change}, 2)
    assert unknown.as_dict() == Window.from_dict(None, 2).as_dict() == Window(2).as_dict()
