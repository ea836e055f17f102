"""Evaluation: which images it scores, what it prints, and when it warns."""

import logging
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data import images_from_arrays
from genjax.errors import ConfigError
from genjax.evaluate.average import Average
from genjax.run import Family, Measure, RestoredRun
from genjax.run import evaluation as evaluation_module
from genjax.run.evaluation import Evaluation, evaluate
from genjax.train.state import TrainState

N = 60
STATE = TrainState(jnp.int32(3), {}, {}, {}, {})
IMAGES = images_from_arrays(np.arange(N, dtype=np.uint8).reshape(N, 1, 1, 1), split="test")
MEASURE = Measure(lambda state, keys, batch: {}, {"bits": "bits/dim", "ess": "of 9"}, chunk=16)


def evaluation(**alarms):
    found = {"bits": Average(np.array([1.0, 3.0])), "ess": Average(np.array([5.0, 50.0]))}
    return Evaluation(
        found,
        dict(MEASURE.units),
        3,
        "arrays",
        "test",
        n=2,
        of=N,
        seed=7,
        seconds=0.0,
        alarms=alarms,
    )


def test_the_table_has_error_bars_and_warns_of_few_effective_samples():
    text = str(evaluation())
    assert "bits      2.0000 ± 1.0000   bits/dim" in text  # s/√n = √2/√2
    assert "2 random ones of 60 images" in text
    assert "seed 7" in text
    assert "warning" not in text
    assert "warning: ess is under 10 for 50.0% of the images" in str(evaluation(ess=10))


def test_its_dict_has_value_error_and_unit_of_each_score():
    values = evaluation().as_dict()
    assert values["scores"]["bits"] == {"value": 2.0, "error": 1.0, "unit": "bits/dim"}
    assert (values["n"], values["of"], values["seed"], values["step"]) == (2, N, 7, 3)


@pytest.mark.parametrize("wrong", [{"n": -1}, {"seed": -1}])
def test_invalid_numbers_raise(wrong):
    with pytest.raises(ConfigError, match="not negative"):
        evaluate(MEASURE, None, IMAGES, **wrong)


def test_a_family_without_scores_raises():
    family = Family({}, None, lambda state, keys, z, label: z, latent=(1,))
    run = RestoredRun(Path("any"), family, {"experiment": "any"}, None)
    with pytest.raises(ConfigError, match=r"any has no scores beyond those of metrics\.jsonl"):
        run.evaluate()


def shade(state, keys, batch):
    return {"bits": batch["image"].mean((1, 2, 3))}


def test_what_all_images_will_take_is_logged_after_the_first(monkeypatch, caplog):
    measure = Measure(shade, {"bits": "bits/dim"}, chunk=50, n=40)
    assert evaluate(replace(measure, n=1000), STATE, IMAGES).n == N  # not more than there are
    clock = iter([0.0, 100.0, 112.0, 500.0])  # of the whole, and of the first images
    compiled = []

    def monotonic():
        compiled.append(compiles.called)
        return next(clock)

    with_compile = evaluation_module.OrderedJit.compile
    compiles = Mock(side_effect=with_compile)
    monkeypatch.setattr(evaluation_module.OrderedJit, "compile", lambda *of: compiles(*of))
    monkeypatch.setattr(evaluation_module, "monotonic", monotonic)
    with caplog.at_level(logging.INFO, "genjax"):
        found = evaluate(measure, STATE, IMAGES)
    assert caplog.messages == [
        "scoring 40 images, 4 at a time; the first tell the cost",
        "4 images took 12 s, 40 will take about 2 min; --n N for fewer",
    ]
    assert (found.n, found.seconds) == (40, 500)  # the measure's own number
    assert compiled == [False, True, True, True]  # the first are timed without their compilation
    scored = found.scores["bits"].values
    assert len(set(scored)) == 40


def test_a_number_that_is_given_counts(caplog):
    measure = Measure(shade, {"bits": "bits/dim"}, n=40)
    with caplog.at_level(logging.INFO, "genjax"):
        assert evaluate(measure, STATE, IMAGES, n=3).n == 3
        assert caplog.messages == []  # all at once: there is nothing to foretell
        everything = evaluate(measure, STATE, IMAGES, n=0)
    assert (everything.n, everything.scores["bits"].mean) == (N, (N - 1) / 2)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.25, "0.25 s"), (45, "45 s"), (240, "4 min"), (80_000, "22 h")]
)
def test_durations_are_in_a_unit_that_fits(seconds, shown):
    assert evaluation_module._duration(seconds) == shown
