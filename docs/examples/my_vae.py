"""A variational autoencoder with dense layers."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from genjax.cli.main import main
from genjax.data import DataSettings
from genjax.losses import likelihoods, vae
from genjax.run import Family, Settings
from genjax.train.game import Aux, Player


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=2000, batch=64)
    data: DataSettings = DataSettings()
    latent: int = 16


def build(config, spec):
    x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, config.latent))
    flat, image = lambda x: x.reshape(len(x), -1), lambda x: x.reshape(-1, *spec.shape)
    encoder = nn.Sequential([flat, nn.Dense(256), nn.relu, nn.Dense(2 * config.latent)])
    decoder = nn.Sequential([nn.Dense(256), nn.relu, nn.Dense(x.size), image])

    def init(key, before):
        return {"vae": {"q": encoder.init(key, x), "p": decoder.init(key, z)}}, {}

    def loss(params, state, keys, batch):
        q = lambda x: jnp.split(encoder.apply(params["vae"]["q"], x), 2, axis=1)
        p = lambda z: decoder.apply(params["vae"]["p"], z)
        elbo = vae.elbo(q, p, batch["image"] / 255, keys, nll=likelihoods.bernoulli_nll)
        return elbo.loss().mean(), Aux()

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(decoder.apply(state.params["vae"]["p"], z))

    return Family({"vae": Player(loss, optax.adam(1e-3))}, init, generate, latent=(config.latent,))


if __name__ == "__main__":
    main("my_vae", __doc__, Config(), build)
