"""Overfitting: a gap between training and held-out images is found at the nominal rate."""

import numpy as np
import pytest

from genjax.evaluate.average import Average
from genjax.evaluate.overfitting import gap, overfitting
from tools import audit_powers


def test_a_gap_is_found_and_none_is_not():
    rows = {row[0]: row[1:] for row in audit_powers.gaps_found(100, 0)}
    none, tenth, third = (float(x.removesuffix(" %")) for x in rows["300"])
    assert none <= 4  # 1 % of 100: three standard deviations more
    assert none < tenth < third
    assert third >= 80


def test_the_interval_covers_the_difference():
    generator = np.random.default_rng(0)
    held = []
    for _ in range(400):
        _, low, high = gap(generator.normal(size=40), generator.normal(0.5, 2, 60), 0.1)
        held.append(low <= 0.5 <= high)
    assert np.mean(held) == pytest.approx(0.9, abs=4 * (0.09 / 400) ** 0.5)


def test_every_score_is_reported_with_its_unit():
    generator = np.random.default_rng(0)
    train = {
        "elbo": Average(generator.normal(5, 1, 200)),
        "kl": Average(generator.normal(1, 0.1, 200)),
    }
    test = {
        "elbo": Average(generator.normal(7, 1, 100)),
        "kl": Average(generator.normal(1, 0.1, 100)),
    }
    finding = overfitting(train, test, {"elbo": "nats"})
    assert finding.found
    assert (finding.n, finding.n_reference) == (200, 100)
    assert finding.numbers["elbo"] == pytest.approx(2, abs=0.5)
    assert "nats); kl " in finding.summary
    few = {"elbo": Average(np.arange(5.0))}
    assert not overfitting(few, few, {}).decided
    with pytest.raises(ValueError, match="give one"):
        overfitting({}, {}, {})
