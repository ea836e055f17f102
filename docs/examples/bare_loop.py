"""Train steps of a game without the engine: no checkpoints, no resuming, no evaluation."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from genjax.data import tfds
from genjax.losses.autoencoder import squared_error
from genjax.train.game import Aux, Player, initial_state
from genjax.train.layout import DataParallel

images = tfds("fashion_mnist_6k").train
encoder = nn.Sequential([nn.Dense(128), nn.relu, nn.Dense(16)])
decoder = nn.Sequential([nn.Dense(128), nn.relu, nn.Dense(784)])


def loss(params, state, keys, batch):
    p = params["autoencoder"]
    x = batch["image"].reshape(len(keys), 784) / 255
    error = squared_error(
        lambda x: encoder.apply(p["encoder"], x), lambda z: decoder.apply(p["decoder"], z), x
    )
    return error.mean(), Aux()


def main(steps: int = 300, batch: int = 64) -> float:
    game = {"autoencoder": Player(loss, optax.adam(1e-3))}
    key = jax.random.key(0)
    params = {
        "encoder": encoder.init(key, jnp.zeros((1, 784))),
        "decoder": decoder.init(key, jnp.zeros((1, 16))),
    }
    layout = DataParallel(1)  # or DataParallel() for all devices, FullySharded() to shard the state
    train_step = layout.compile(game)
    state = layout.place(initial_state(game, {"autoencoder": params}, {}))
    for data in images.batches(0, 0, batch, scan_steps=1, stop=steps):
        state, metrics = train_step(state, key, layout.feed(data))
    return float(metrics["autoencoder/loss"][-1])


if __name__ == "__main__":
    print(f"squared error {main() / 784:.4f} per pixel")
