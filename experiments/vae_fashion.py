"""A variational autoencoder with a Bernoulli likelihood on Fashion-MNIST, dense or convolutional.

Kingma & Welling, "Auto-Encoding Variational Bayes" (2014): 784-400-20, Adam. --beta gives Higgins
et al.'s β-VAE (2017), --warm-up raises β linearly over the first steps.

    python -m experiments.vae_fashion

15 s on two CPU cores. Expect a bound of 245 nats on held-out images (18 of them KL) and soft,
varied clothes: on 6,000 images more steps only overfit.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.losses import importance, likelihoods, vae
from genjax.models import autoencoder
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux, Player


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=4000, batch=128, every=1000)
    data: DataSettings = DataSettings()
    conv: bool = False
    """Convolutions instead of dense layers."""
    latent: int = 20
    """Numbers in a code."""
    hidden: int = 400
    """Width of the dense layers."""
    beta: float = 1.0
    """Weight of the KL term."""
    warm_up: int = 0
    """Steps over which that weight rises from 0."""
    learning_rate: float = 1e-3


UNITS = {
    "negative_log_likelihood": "nats",
    "negative_elbo": "nats",
    "nll": "nats",
    "kl": "nats",
    "effective_samples": "of 5,000",
}


def build(config: Config, spec: ImageSpec) -> Family:
    if config.conv:
        network = autoencoder.ConvEncoder(latent=2 * config.latent)
        decoder = autoencoder.ConvDecoder(spec.shape)
    else:
        network = autoencoder.DenseEncoder((config.hidden,), 2 * config.latent)
        decoder = autoencoder.DenseDecoder(spec.shape, (config.hidden,))
    encoder = autoencoder.GaussianEncoder(network)

    def init(key, before):
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, config.latent))
        keys = jax.random.split(key)
        return {
            "vae": {"encoder": encoder.init(keys[0], x), "decoder": decoder.init(keys[1], z)}
        }, {}

    def bound(estimate, params, keys, batch, **options):
        return estimate(
            lambda x: encoder.apply(params["encoder"], x),
            lambda z: decoder.apply(params["decoder"], z),
            batch["image"] / 255,
            keys,
            nll=likelihoods.bernoulli_nll,
            **options,
        )

    def elbo(params, keys, batch):
        return bound(vae.elbo, params, keys, batch)

    def loss(params, state, keys, batch):
        parts = elbo(params["vae"], keys, batch)
        beta = config.beta * jnp.minimum(1.0, (state.step + 1) / max(config.warm_up, 1))
        return parts.loss(beta).mean(), Aux({"nll": parts.nll.mean(), "kl": parts.kl.mean()})

    def validate(state, keys, batch):
        parts = elbo(state.params["vae"], keys, batch)
        return {"negative_elbo": parts.loss(), "nll": parts.nll, "kl": parts.kl}

    def measure(state, keys, batch):
        elbo_keys, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        log_p, effective = bound(
            importance.log_likelihood, state.params["vae"], keys, batch, samples=5000
        )
        return {
            "negative_log_likelihood": -log_p,
            **validate(state, elbo_keys, batch),
            "effective_samples": effective,
        }

    return Family(
        game={"vae": Player(loss, optax.adam(config.learning_rate))},
        init=init,
        latent=(config.latent,),
        generate=lambda state, key, z, label: jax.nn.sigmoid(
            decoder.apply(state.params["vae"]["decoder"], z)
        ),
        encode=lambda state, image: encoder.apply(state.params["vae"]["encoder"], image / 255)[0],
        validate=validate,
        # 5,000 importance samples; on grey values a cross entropy, not a likelihood
        measure=Measure(measure, UNITS, alarms={"effective_samples": 10}),
    )


if __name__ == "__main__":
    main("vae_fashion", __doc__, Config(), build)
