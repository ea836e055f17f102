"""flax.nnx networks that update themselves, under a penalty and a sampler, as their docs say."""

import jax
import numpy as np
import pytest

from genjax.diffusion import predictions, samplers, schedules, steps
from genjax.losses import penalties

pytestmark = pytest.mark.heavy

nnx = pytest.importorskip("flax.nnx")
X = jax.random.normal(jax.random.key(0), (4, 3))


class Network(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.dropout = nnx.BatchNorm(3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(x))


def test_a_merged_copy_runs_under_a_penalty_and_drops_its_updates():
    critic = Network(nnx.Rngs(0))
    graph, state = nnx.split(critic)
    slope = penalties.r1(lambda x: nnx.merge(graph, state, copy=True)(x).sum(-1), X)
    assert slope.shape == (4,)
    np.testing.assert_array_equal(critic.norm.mean[...], 0)


def test_a_merged_copy_in_evaluation_mode_runs_under_a_sampler():
    network = Network(nnx.Rngs(0))
    network.eval()
    graph, state = nnx.split(network)
    arguments = {
        "schedule": schedules.RectifiedFlow(),
        "target": predictions.flow,
        "steps": steps.linear(4),
    }
    found = samplers.ddim(
        lambda z, t: nnx.merge(graph, state)(z), None, X.shape, start=X, **arguments
    )
    # Fresh statistics are those of N(0, 1), less BatchNorm's epsilon of 1e-5: dz/dt = z.
    np.testing.assert_allclose(found, X * 0.75**4, rtol=1e-4)
