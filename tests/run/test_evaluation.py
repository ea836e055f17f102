"""The command evaluate: whom it scores, what it prints, and when it warns."""

import numpy as np
import pytest

from genjax.cli import evaluating
from genjax.cli.config import ConfigError
from genjax.cli.main import Evaluate
from genjax.cli.system import Measure
from genjax.data import images_from_arrays
from genjax.evaluate.average import Average

N = 60
IMAGES = images_from_arrays(np.arange(N, dtype=np.uint8).reshape(N, 1, 1, 1), split="test")
MEASURE = Measure(lambda state, keys, batch: {}, {"bits": "bits/dim", "ess": "of 9"}, chunk=16)


def test_the_table_has_error_bars_and_warns_of_few_effective_samples(capsys):
    found = {"bits": Average(np.array([1.0, 3.0])), "ess": Average(np.array([5.0, 50.0]))}
    evaluating._table(found, MEASURE, IMAGES, 7)
    said = capsys.readouterr().out
    assert "bits      2.0000 ± 1.0000   bits/dim" in said  # s/√n = √2/√2
    assert "2 random ones of 60 images" in said
    assert "seed 7" in said
    assert "warning" not in said

    strict = Measure(MEASURE.scores, MEASURE.units, alarms={"ess": 10})
    evaluating._table(found, strict, IMAGES, 7)
    assert "warning: ess is under 10 for 50.0% of the images" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"n": -1}, {"seed": -1}])
def test_numbers_that_make_no_sense_are_refused(wrong, monkeypatch):
    class Run:
        system = type("System", (), {"measure": MEASURE})

    monkeypatch.setattr(evaluating, "Trained", lambda *_, **__: Run)
    with pytest.raises(ConfigError, match="not negative"):
        evaluating.evaluate("any", object, None, Evaluate(**wrong))


def test_an_experiment_without_such_scores_says_so(monkeypatch):
    class Run:
        system = type("System", (), {"measure": None})

    monkeypatch.setattr(evaluating, "Trained", lambda *_, **__: Run)
    with pytest.raises(ConfigError, match=r"any has no scores beyond those of metrics\.jsonl"):
        evaluating.evaluate("any", object, None, Evaluate())
