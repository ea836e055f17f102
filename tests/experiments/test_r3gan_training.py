"""R3GAN's losses: pairs, penalties and schedules against the parts of the paper."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import r3gan
from genjax.data import ImageSpec
from genjax.errors import ConfigError
from genjax.keys import normal, split
from genjax.losses import penalties
from genjax.models.r3gan import Critic, Generator
from genjax.run.family import untrained_state

SPEC = ImageSpec((4, 4, 1), 3, 100)
CONFIG = r3gan.Config(
    run=replace(r3gan.Config().run, batch=4), latent=3, widths=(4,), group=4, gamma=2.0,
    burn_in=400, half_life=80, classes=True,
)  # fmt: skip
KEYS = jax.random.split(jax.random.key(1), 4)
BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (4, 4, 4, 1)).astype(np.uint8),
    "label": np.array([0, 1, 2, 1]),
}


def test_the_losses_are_those_of_pairs_with_r1_and_r2_of_a_falling_weight():
    family = r3gan.build(CONFIG, SPEC)
    state = untrained_state(family, jax.random.key(0))
    # The last kernels start at zero: moved, so that all of the networks counts.
    params = jax.tree.map(lambda w: w + 0.1, state.params)
    critic, generator = Critic((4,), 1, 4, 3), Generator((4, 4, 1), (4,), 1, 4, 3)
    label = jnp.asarray(BATCH["label"])

    @jax.jit
    def parts():
        z = normal(split(KEYS, 3)[0], (4, 3))
        fakes = generator.apply(params["generator"], z, label)
        x = BATCH["image"] / 127.5 - 1

        def judge(images):
            return critic.apply(params["critic"], images, label)

        slopes = penalties.r1(judge, jnp.float32(x)), penalties.r2(judge, fakes)
        return judge(jnp.float32(x)), judge(fakes), *slopes

    @jax.jit
    def losses(step):
        at = replace(state, step=step)
        return [player.loss(params, at, KEYS, BATCH)[0] for player in family.game.values()]

    real, fake, r1, r2 = (np.asarray(part, np.float64) for part in parts())
    assert np.abs(real - fake).min() > 1e-3
    for step, gamma in ((0, 2.0), (50, 1.1), (100, 0.2), (200, 0.2)):  # 400 images are 100 steps
        critic_loss, generator_loss = losses(jnp.int32(step))
        expected = (np.log1p(np.exp(fake - real)) + gamma / 2 * (r1 + r2)).mean()
        assert critic_loss == pytest.approx(expected, rel=1e-4)
        assert generator_loss == pytest.approx(np.log1p(np.exp(real - fake)).mean(), rel=1e-4)


def test_rates_decays_and_average_burn_in():
    player = r3gan.build(CONFIG, SPEC).game["generator"]
    rate = CONFIG.learning_rate
    found = [player.learning_rate(step) for step in (0, 50, 100, 999)]
    np.testing.assert_allclose(found, [rate, rate * 0.625, rate / 4, rate / 4], rtol=1e-5)
    found = [float(player.ema(jnp.int32(step))) for step in (0, 50, 100, 999)]
    np.testing.assert_allclose(found, [0, 0.5 ** (4 / 40), 0.5 ** (4 / 80), 0.5 ** (4 / 80)])
    params = {"w": jnp.zeros(2)}
    state = player.optimizer.init(params)
    _, state = player.optimizer.update({"w": jnp.ones(2)}, state, params)
    assert float(state.hyperparams["b2"]) == pytest.approx(0.9)
    later = state._replace(count=jnp.int32(100))
    moved = jax.tree.map(
        lambda x: jnp.int32(100) if x.dtype == jnp.int32 else x, later.hyperparams_states
    )
    _, state = player.optimizer.update(
        {"w": jnp.ones(2)}, later._replace(hyperparams_states=moved), params
    )
    assert float(state.hyperparams["b2"]) == pytest.approx(0.99)


def test_without_a_number_the_burn_in_is_the_run():
    config = replace(CONFIG, burn_in="run", run=replace(CONFIG.run, steps=100))
    player = r3gan.build(config, SPEC).game["generator"]
    found = [player.learning_rate(step) for step in (0, 50, 100)]
    rate = CONFIG.learning_rate
    np.testing.assert_allclose(found, [rate, rate * 0.625, rate / 4], rtol=1e-5)


def test_groups_that_do_not_divide_a_block_are_refused():
    with pytest.raises(ConfigError, match=r"--group 3 must divide 8, .* --widths 4"):
        replace(CONFIG, group=3).check(SPEC)
    with pytest.raises(ConfigError, match="--widths halves images 3 times"):
        replace(CONFIG, widths=(4, 4, 4, 4)).check(SPEC)
