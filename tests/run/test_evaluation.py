"""Evaluation: which images it scores, what it prints, and when it warns."""

from pathlib import Path

import numpy as np
import pytest

from genjax.data import images_from_arrays
from genjax.errors import ConfigError
from genjax.evaluate.average import Average
from genjax.run import Family, Measure, RestoredRun
from genjax.run.evaluation import Evaluation, evaluate

N = 60
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
