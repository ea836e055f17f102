"""Whether a loss convolves, by its jaxpr."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn

from genjax.models.layers import Conv, UpsampleConv
from genjax.train.convolutions import convolves
from genjax.train.game import Aux, Player, initial_state

X = jnp.zeros((4, 8, 8, 1))


def game_of(network):
    def loss(params, state, keys, batch):
        return jnp.mean(network.apply(params["p"], batch) ** 2), Aux()

    return {"p": Player(loss, optax.sgd(1.0))}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Dense(3), False),
        (nn.Conv(3, (3, 3)), True),
        (Conv(3, (3, 3)), True),
        (UpsampleConv(3), True),
        (nn.Sequential([nn.Dense(2), jax.checkpoint(lambda x: nn.relu(x)), nn.Dense(1)]), False),
        (nn.remat(nn.Conv)(3, (3, 3)), True),
    ],
)
def test_has_convolutions_detects_only_losses_that_convolve(network, expected):
    game = game_of(network)
    state = initial_state(game, {"p": network.init(jax.random.key(0), X)}, {})
    shapes = jax.eval_shape(lambda: state)
    assert convolves(game, shapes, jax.ShapeDtypeStruct(X.shape, X.dtype)) is expected


def test_a_loss_gets_one_key_per_example():
    def loss(params, state, keys, batch):
        noise = jax.vmap(lambda key, image: jax.random.normal(key, image.shape))(keys, batch)
        return jnp.mean(params["p"] * noise), Aux()

    game = {"p": Player(loss, optax.sgd(1.0))}
    state = initial_state(game, {"p": jnp.ones(())}, {})
    assert not convolves(game, state, X)
