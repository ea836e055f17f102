"""StyleGAN2's training: mixing, lazy penalties, path lengths, truncation, the mean latent."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import stylegan
from experiments.style_training import W_DECAY, StyleGame, mixed
from genjax import keys
from genjax.data import ImageSpec
from genjax.losses import gan, penalties
from genjax.train.game import initial_state

pytestmark = pytest.mark.heavy

KEY = jax.random.key(3)
SMALL = stylegan.Config(
    latent=4, features=6, mapping_layers=1, widths=(4,), mixing=0.5, path_length=2.0
)
SPEC = ImageSpec((4, 4, 1), 0, 100)
BATCH = {"image": jax.random.randint(KEY, (4, 4, 4, 1), 0, 256).astype(jnp.uint8)}
KEYS = jax.random.split(KEY, 4)


@pytest.fixture(scope="module")
def game():
    return StyleGame(SMALL, SPEC.shape, None)


@pytest.fixture(scope="module")
def state(game):
    """A state with parameters off their zeros."""

    @jax.jit
    def drawn(key):
        params, variables = game.init(key, None)
        return jax.tree.map(lambda p: p + 0.05, params), variables

    return initial_state(stylegan.build(SMALL, SPEC).game, *drawn(KEY))


@pytest.fixture(scope="module")
def played(game, state):
    """Both players' losses, with and without their penalties: those of steps 32 and 33."""

    @jax.jit
    def losses(state):
        given = (state.params, state, KEYS, BATCH)
        return game.critic_loss(*given), game.generator_loss(*given)

    return [losses(replace(state, step=jnp.int32(step))) for step in (32, 33)]


@pytest.fixture(scope="module")
def expected(game, state):
    """What the losses are made of, by their formulas."""

    @jax.jit
    def parts(params):
        own, x = params["generator"], BATCH["image"] / 127.5 - 1

        def judge(x):
            return game.critic.apply(params["critic"], x)

        noise, paint, *_ = keys.split(KEYS, 4)
        fake = game.draw(own, game.latents(own, noise, None)[0], paint)
        noise, paint, _, probe = keys.split(KEYS, 4)
        w, first = game.latents(own, noise, None)
        y = jax.vmap(lambda key: jax.random.normal(key, (4, 4, 1)))(probe) / 4
        slopes = jax.grad(lambda w: (game.draw(own, w, paint) * y).sum())(w)
        return {
            "critic": gan.non_saturating.discriminator(judge(x), judge(fake)).mean(),
            "slope": penalties.r1(judge, x).mean(),
            "real": jax.nn.sigmoid(judge(x)).mean(),
            "generator": gan.non_saturating.generator(None, judge(game.draw(own, w, paint))).mean(),
            "lengths": jnp.sqrt(jnp.square(slopes).sum(2).mean(1)),
            "w": first.mean(0),
        }

    return parts(state.params)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_images_is_mixed_at_a_random_layer(share):
    first, second = jnp.zeros((20_000, 1)), jnp.ones((20_000, 6, 1))
    found = mixed(first, second, jax.random.split(KEY, 20_000), share)[..., 0]
    cuts = 6 - found.sum(1)
    assert (jnp.diff(found, axis=1) >= 0).all()  # of the first up to a layer, then of the second
    counts = np.bincount(np.asarray(cuts, int), minlength=7) / 20_000
    shares = [0, *[share / 5] * 5, 1 - share]
    np.testing.assert_allclose(counts, shares, atol=4 * 0.5 / 20_000**0.5)


@pytest.mark.slow
def test_the_slope_at_real_images_counts_at_every_so_many_steps(played, expected):
    ((at, _), _), ((between, aux), _) = played
    np.testing.assert_allclose(between, expected["critic"], rtol=1e-5)
    np.testing.assert_allclose(at - between, 0.1 / 2 * 16 * expected["slope"], rtol=1e-3)
    assert expected["slope"] > 1e-3
    np.testing.assert_allclose(aux.metrics["real"], expected["real"], rtol=1e-5)


def test_the_path_length_is_that_of_the_released_code(played, expected):
    (_, (at, aux)), (_, (between, kept)) = played
    lengths = expected["lengths"]
    mean = 0.01 * lengths.mean()
    np.testing.assert_allclose(between, expected["generator"], rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["length"], mean, rtol=1e-4)
    np.testing.assert_allclose(at - between, 2 * 8 * jnp.square(lengths - mean).mean(), rtol=1e-3)
    assert kept.metrics["length"] == 0


def test_the_running_mean_is_that_of_the_latents(played, expected):
    aux = played[1][1][1]
    mean = (1 - W_DECAY) * expected["w"]
    np.testing.assert_allclose(aux.variables["generator"]["w"], mean, rtol=1e-4, atol=1e-7)


def test_without_mixing_there_is_one_latent_and_what_is_learned_is_the_same(game, state):
    """A share so small that no image is mixed is the other way to have one latent."""

    def slopes(share, own):
        one = StyleGame(replace(SMALL, mixing=share), SPEC.shape, None)
        (w, first), back = jax.vjp(lambda own: one.latents(own, KEYS, None), own)
        return w, first, back((jnp.cos(w), jnp.sin(first)))

    own = state.params["generator"]
    found, expected = jax.jit(lambda own: [slopes(share, own) for share in (0.0, 1e-30)])(own)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)
    assert max(np.abs(x).max() for x in jax.tree.leaves(found[2])) > 0.01
    products = [
        str(jax.make_jaxpr(partial(slopes, s))(own)).count("dot_general[") for s in (0, 0.5)
    ]
    assert products[0] < products[1]


def test_adam_steps_as_far_as_without_the_penalties():
    game = stylegan.build(SMALL, SPEC).game
    assert game["critic"].learning_rate == pytest.approx(2e-3 * 16 / 17)
    assert game["generator"].learning_rate == pytest.approx(2e-3 * 8 / 9)
    plain = stylegan.build(replace(SMALL, path_length=0.0, gamma=0.0), SPEC).game
    assert plain["generator"].learning_rate == plain["critic"].learning_rate == 2e-3
