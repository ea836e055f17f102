"""Draws of a non-linear decoder's latent against NumPyro's No-U-Turn sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit.latent_sampling import hmc
from tests.edit.decoders import MASK, SHAPE, W

numpyro = pytest.importorskip("numpyro")


def decode(z):
    return jnp.tanh(z @ (0.5 * W.T)).reshape(len(z), *SHAPE)


@pytest.mark.slow
def test_moments_are_those_of_nuts():
    y = MASK(decode(jnp.array([[0.1, -0.8, 1.0]])))
    own = {"chains": 16, "draws": 500, "warmup": 300, "thin": 2}
    found = jax.jit(
        lambda y: hmc(decode, jax.random.key(0), y, MASK, latent=(3,), noise=0.3, **own)
    )(y)

    def model():
        z = numpyro.sample("z", numpyro.distributions.Normal(jnp.zeros(3), 1).to_event(1))
        x = MASK(decode(z[None]))
        numpyro.sample("y", numpyro.distributions.Normal(x, 0.3).to_event(4), obs=y)

    nuts = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model),
        num_warmup=500,
        num_samples=500,
        num_chains=16,
        chain_method="vectorized",
        progress_bar=False,
    )
    nuts.run(jax.random.key(1))
    theirs = np.asarray(nuts.get_samples(group_by_chain=True)["z"], float)
    ours = np.asarray(found.z[0], float)
    for power in (1, 2):
        values = [ours**power, theirs**power]
        effective = [numpyro.diagnostics.effective_sample_size(v) for v in values]
        error = np.sqrt(sum(v.var((0, 1)) / n for v, n in zip(values, effective, strict=True)))
        assert np.abs((values[0] - values[1]).mean((0, 1)) / error).max() < 4
    assert np.min(effective) > 500
