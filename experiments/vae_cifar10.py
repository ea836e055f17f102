"""A convolutional VAE on CIFAR-10 whose decoder gives each pixel a mixture of logistics.

The discretised likelihood of Salimans et al., "PixelCNN++" (2017), which couples the colours of a
pixel, in the bound of Kingma & Welling (2014): a probability of 8-bit images, so that −ELBO is a
number of bits per dimension to compare. The network is small and plain; deep hierarchies do better.

    python -m experiments.vae_cifar10 --data.dir DIR      # then: evaluate

--data.download prepares cifar10 where TensorFlow is installed.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from experiments import checks, suggestions
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.evaluate.likelihood_scores import elbo_scores, vae_scores, vae_units
from genjax.evaluate.profiles import kl_per_dimension
from genjax.limits import Natural, Positive, Width, Widths
from genjax.losses import vae
from genjax.losses.likelihoods import discretized_logistic_mixture_nll
from genjax.losses.vlb import bits_per_dim
from genjax.models import autoencoder, logistic_mixture
from genjax.run import Family, Measure, Settings
from genjax.train import rates
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=40_000, batch=64, every=1000)
    data: DataSettings = DataSettings("cifar10")
    latent: Width = 128
    """Numbers in a code."""
    widths: Widths = (64, 128, 256)
    """Channels of the encoder, halving the resolution at each; the decoder's in reverse."""
    mixture: Width = 10
    """Logistics in a pixel's mixture."""
    warm_up: Natural = 1000
    """Steps over which the weight of the KL term rises from 0."""
    learning_rate: Positive = 5e-4
    optimizer: Optimizer = Optimizer()
    check = checks.convolutional_vae
    suggest = suggestions.convolutional_vae


def build(config: Config, spec: ImageSpec) -> Family:
    channels, k = spec.shape[-1], config.mixture
    outputs = logistic_mixture.outputs(channels, k)
    encoder = autoencoder.GaussianEncoder(autoencoder.ConvEncoder(config.widths, 2 * config.latent))
    decoder = autoencoder.ConvDecoder((*spec.shape[:2], outputs), config.widths[::-1])

    def init(key, before):
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, config.latent))
        keys = jax.random.split(key)
        params = {"encoder": encoder.init(keys[0], x), "decoder": decoder.init(keys[1], z)}
        return {"vae": params}, {}

    def decode(params, z):
        found = decoder.apply(params["decoder"], z)
        return logistic_mixture.floored(found, channels, k, shift=-2.0)

    def apply(score, params, keys, batch, **options):  # score: of the arguments of vae.elbo
        encode, x = partial(encoder.apply, params["encoder"]), batch["image"] / 127.5 - 1
        return score(encode, partial(decode, params), x, keys, nll=NLL, **options)

    def loss(params, state, keys, batch):
        parts = apply(vae.elbo, params["vae"], keys, batch)
        beta = rates.linear_ramp(state.step, config.warm_up)
        metrics = {"nll": parts.nll.mean(), "kl": parts.kl.mean()}
        return bits_per_dim(parts.loss(beta).mean(), batch["image"].shape), Aux(metrics)

    def scores(score, state, keys, batch, **options):
        return apply(score, state.params["vae"], keys, batch, bits_per_dim=True, **options)

    def posterior(state, batch):
        return encoder.apply(state.params["vae"]["encoder"], batch["image"] / 127.5 - 1)

    def generate(state, keys, z, label):
        return logistic_mixture.likeliest(decode(state.params["vae"], z), channels, k)

    measure = partial(scores, partial(vae_scores, samples=500, chunk=5))
    units, alarms = vae_units(500, "bits/dim"), {"effective_samples": 5}
    return Family(
        {"vae": config.optimizer.player(loss, config.learning_rate)},
        init,
        generate,
        latent=(config.latent,),
        encode=lambda state, image: posterior(state, {"image": image})[0],
        validate=partial(scores, elbo_scores),
        profile=kl_per_dimension(posterior),
        measure=Measure(measure, units, chunk=20, n=100, alarms=alarms),
    )


NLL = partial(discretized_logistic_mixture_nll, low=-1.0)


if __name__ == "__main__":
    main("vae_cifar10", __doc__, Config(), build)
