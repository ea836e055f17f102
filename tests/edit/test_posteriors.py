"""Solvers on Gaussian data: the exact moments of what they return against the exact posterior.

A solver that is affine in its random numbers has moments in closed form (`exact.moments`), so that
its bias is a number without Monte-Carlo error. The numbers here are those of the docstrings.
"""

import jax
import numpy as np
import pytest

from genjax.edit import ddnm, repaint
from tests.edit import exact

STEPS = 50
DRAWS = {
    ddnm.ddnm: 2 * STEPS + 2,
    # 50 steps, and 9 times 10 more for each of 4 jumps.
    repaint.repaint: 2 * (STEPS + 9 * 10 * 4) + 2,
}


def found(monkeypatch, solver, data, name, noise, **options):
    y = exact.observation(data, name, noise)

    def run(count):
        return jax.jit(
            lambda y: exact.solve(solver, data, name, None, y, noise, n=STEPS, **options)
        )(exact.batch(y, name, count))

    moments = exact.moments(monkeypatch, DRAWS[solver], run)
    return moments, data.posterior(exact.MATRICES[name], y, noise)


@pytest.mark.parametrize(
    ("solver", "name", "noise", "mean", "variance"),
    [
        (ddnm.ddnm, "mask", 0.0, 0.105, 1.07),
        (ddnm.ddnm, "mask", 0.3, 0.226, 0.81),
        (ddnm.ddnm, "downsampling", 0.05, 0.016, 0.87),
        (ddnm.ddnm, "blur", 0.05, 0.097, 0.40),
        (repaint.repaint, "mask", 0.0, 0.042, 0.88),
        (repaint.repaint, "mask", 0.3, 0.026, 0.86),
        (repaint.repaint, "downsampling", 0.05, 0.004, 0.83),
    ],
)
def test_the_bias_is_the_documented_one(monkeypatch, solver, name, noise, mean, variance):
    moments, right = found(monkeypatch, solver, exact.SMOOTH, name, noise)
    error, ratio = exact.bias(moments, right, exact.SMOOTH)
    assert error == pytest.approx(mean, abs=2e-3)
    assert ratio == pytest.approx(variance, abs=0.01)
    if noise == 0:
        # What was observed has no variance, and the rest is uncertain.
        np.testing.assert_allclose(np.diag(moments[1])[:8], 0, atol=1e-9)
        assert np.diag(moments[1])[8:].min() > 0.05
