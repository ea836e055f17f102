"""Losses in user code: the README's snippet, and models of three kinds, trained."""

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.diffusion import predictions, schedules
from genjax.losses import flow, likelihoods, vae
from genjax.losses.diffusion import denoising

README = Path(__file__).parent.parent / "README.md"
SIDE = 4
# Images of one bit: all white or all black.
X = jnp.broadcast_to(jnp.array([-1.0, 1.0] * 64)[:, None, None, None], (128, SIDE, SIDE, 1))
PIXELS = SIDE**2


@pytest.mark.heavy
def test_the_readmes_snippet_runs_as_it_stands_and_gives_one_number_per_example():
    section = README.read_text().split("## One loss in your own code", 1)[1].split("\n## ", 1)[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    names: dict = {}
    exec(code, names)
    assert names["loss"].shape == names["x"].shape[:1]
    assert np.isfinite(names["loss"]).all()
    assert (names["loss"] > 0).all()


def trained(loss, params, optimizer, steps=150):
    """The mean loss after some steps: loss(params, key) -> [B]."""

    def step(state, key):
        params, moments = state
        gradient = jax.grad(lambda p: loss(p, key).mean())(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), None

    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(0), steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        # Many times and noises, none of them used in training.
        eval_keys = jax.random.split(jax.random.key(1), 32)
        return jax.lax.map(lambda key: loss(params, key).mean(), eval_keys).mean()

    return run(params)


@pytest.mark.heavy
def test_a_hand_written_denoiser_learns_by_plain_gradient_descent():
    first, second = jax.random.split(jax.random.key(2))
    params = {
        "in": 0.2 * jax.random.normal(first, (PIXELS + 1, 32)),
        "out": 0.2 * jax.random.normal(second, (32, PIXELS)),
    }

    def loss(params, key):
        def predict(z, t):
            rows = jnp.concatenate([z.reshape(len(z), -1), t[:, None]], axis=1)
            return (jnp.tanh(rows @ params["in"]) @ params["out"]).reshape(z.shape)

        return denoising(predict, X, key, schedule=schedules.Cosine(), target=predictions.data)

    # What does not depend on z is at best the mean image, 0, and every pixel is ±1.
    assert trained(loss, params, optax.sgd(0.01)) < PIXELS / 2


@pytest.mark.heavy
def test_a_flax_nnx_autoencoder_learns_a_code_of_one_bit():
    nnx = pytest.importorskip("flax.nnx")

    class Autoencoder(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(PIXELS, 16, rngs=rngs)
            self.code = nnx.Linear(16, 2, rngs=rngs)
            self.decode_layer = nnx.Linear(1, PIXELS, rngs=rngs)

        def encode(self, x):
            return jnp.split(self.code(jnp.tanh(self.hidden(x.reshape(len(x), -1)))), 2, axis=1)

        def decode(self, z):
            return self.decode_layer(z).reshape(len(z), SIDE, SIDE, 1)

    graph, params = nnx.split(Autoencoder(nnx.Rngs(0)))
    x = (X + 1) / 2

    def loss(params, key):
        model = nnx.merge(graph, params)
        return vae.elbo(model.encode, model.decode, x, key, nll=likelihoods.bernoulli_nll).loss()

    # A decoder that ignores its code is at best a fair coin for every pixel.
    assert trained(loss, params, optax.adam(0.03)) < PIXELS * math.log(2) / 2


@pytest.mark.heavy
def test_an_equinox_network_learns_a_flow():
    eqx = pytest.importorskip("equinox")
    network = eqx.nn.MLP(PIXELS + 1, PIXELS, 32, 1, key=jax.random.key(2))
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def loss(params, key):
        network = eqx.combine(params, static)

        def predict(z, t):
            rows = jnp.concatenate([z.reshape(len(z), -1), t[:, None]], axis=1)
            return jax.vmap(network)(rows).reshape(z.shape)

        return flow.flow_matching(predict, X, key)

    # What does not depend on z is at best 0: ε − x has a variance of 1 + 1 per pixel.
    assert trained(loss, params, optax.adam(0.01)) < 2 * PIXELS / 2
