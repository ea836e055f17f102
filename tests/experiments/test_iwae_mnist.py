"""Burda et al.'s model: its evaluation against brute force, its bias, rates and binary draws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments import iwae_mnist
from genjax.data import DataSettings, ImageSpec, open_images
from genjax.losses import importance, likelihoods
from genjax.models.autoencoder import DenseDecoder, DenseEncoder, GaussianEncoder
from genjax.run import Settings
from genjax.train.game import initial_state

SPEC = ImageSpec((2, 2, 1), 0, 100)
X = np.array([[0, 255, 255, 0], [255, 0, 0, 0]], np.uint8).reshape(2, 2, 2, 1)


def built(spec=SPEC, **settings):
    return iwae_mnist.build(replace(iwae_mnist.Config(), **settings), spec)


def random_state(family):
    """A state whose parameters are all drawn, biases too; no data are read.

    The image depends on the latents, the latents depend little on what is below and above them, so
    that importance sampling has an easy task.
    """
    shapes = jax.eval_shape(lambda key: family.init(key, None), jax.random.key(0))[0]
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        image = "p1" in jax.tree_util.keystr(path)
        drawn = rng.standard_normal(leaf.shape) / leaf.shape[0] ** 0.5
        # Biases of one sign: wrong sums over 50 latents would show.
        drawn = drawn if image else 0.1 if leaf.ndim == 1 else 0.3 * drawn
        return jnp.broadcast_to(jnp.asarray(drawn, leaf.dtype), leaf.shape)

    return initial_state(family.game, jax.tree_util.tree_map_with_path(draw, shapes), {})


@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_log_likelihood_is_that_of_the_generator_by_brute_force(layers):
    family = built(layers=layers)
    state = random_state(family)
    keys = jax.random.split(jax.random.key(2), 2)
    scores = jax.jit(family.measure.scores)(state, keys, {"image": X})

    # p(x) = E_p(h)[p(x|h)]: the generator does not depend on the encoder.
    n = 100_000
    z = jax.random.normal(jax.random.key(3), (n, 50))
    p = jax.jit(family.generate)(state, jax.random.split(jax.random.key(4), n), z, None)
    x = X[:, None] / 255
    likelihood = np.where(x == 1, p[None], 1 - p[None]).prod((2, 3, 4), dtype=np.float64)
    expected = -np.log(likelihood.mean(1))
    error = likelihood.std(1) / n**0.5 / likelihood.mean(1)
    effective = scores["effective_samples"]
    assert (effective > 100).all()
    np.testing.assert_array_less(
        np.abs(scores["negative_log_likelihood"] - expected), 5 * error + 5 / effective**0.5
    )


@pytest.mark.slow
def test_one_layer_is_the_vae_of_genjax_losses():
    family = built()
    state = random_state(family)
    params = state.params["vae"]
    encoder = GaussianEncoder(DenseEncoder((200, 200), 100, nn.tanh))
    decoder = DenseDecoder(SPEC.shape, (200, 200), nn.tanh)

    def encode(x):
        mean, log_sigma = encoder.apply(params["q1"], x)
        return mean, 2 * log_sigma

    keys = jax.random.split(jax.random.key(2), 2)
    expected = importance.iwae(
        encode,
        lambda z: decoder.apply(params["p1"], z),
        jnp.asarray(X / 255, jnp.float32),
        jax.vmap(jax.random.split)(keys)[:, 1],
        nll=likelihoods.bernoulli_nll,
        samples=50,
    )
    found = family.validate(state, keys, {"image": X})["negative_iwae_50"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_output_starts_at_the_mean_of_the_training_pixels(own_sets):
    data = DataSettings("fashion_mnist_6k", dir=str(own_sets))
    images = open_images(data.name, data_dir=own_sets).source.image
    family = built(ImageSpec((28, 28, 1), 0, 6000), data=data)
    params = jax.jit(lambda key: family.init(key, None)[0])(jax.random.key(0))
    bias = params["vae"]["p1"]["params"]["Dense_2"]["bias"]
    mean = np.clip(images.mean(0) / 255, 0.001, 0.999).ravel()
    np.testing.assert_allclose(jax.nn.sigmoid(bias), mean, rtol=1e-4)


def test_the_rate_falls_by_a_seventh_of_a_decade_after_each_power_of_three_epochs():
    family = built(run=Settings(steps=1, batch=20))  # 5 steps per epoch
    optimizer = family.game["vae"].optimizer
    one = {"w": jnp.ones(())}
    ends = np.cumsum([5 * 3**i for i in range(8)])
    for stage, end in enumerate(ends):
        for step in (end - 5 * 3**stage, end - 1):  # the first and last of the stage
            state = optax.tree_utils.tree_set(optimizer.init(one), count=step, mu=one, nu=one)
            update, _ = optimizer.update(one, state)
            m, v = 1 / (1 - 0.9 ** (step + 1)), 1 / (1 - 0.999 ** (step + 1))
            rate = 1e-3 * 10 ** (-stage / 7)
            # float32 powers of 0.999 are off by 1e-7 · step of themselves, and m, v where small.
            np.testing.assert_allclose(-update["w"], rate * m / (v**0.5 + 1e-4), rtol=1e-3)


@pytest.mark.slow
def test_dynamic_draws_have_the_grey_values_as_their_mean():
    n = 4000
    batch = {"image": np.full((n, 2, 2, 1), [[[30], [90]], [[160], [220]]], np.uint8)}
    keys = jax.random.split(jax.random.key(0), n)
    fixed, dynamic = built(), built(dynamic=True)
    state = random_state(fixed)
    # An encoder that ignores x makes −ELBO linear in x.
    state.params["vae"]["q1"] = jax.tree.map(jnp.zeros_like, state.params["vae"]["q1"])
    grey, drawn = (
        np.asarray(jax.jit(s.validate)(state, keys, batch)["negative_elbo"])
        for s in (fixed, dynamic)
    )
    assert drawn.var() > 1.1 * grey.var()
    error = ((drawn.var() + grey.var()) / n) ** 0.5
    assert abs(drawn.mean() - grey.mean()) < 4 * error
