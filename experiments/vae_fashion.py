"""A variational autoencoder with a Bernoulli likelihood on Fashion-MNIST, dense or convolutional.

Kingma & Welling, "Auto-Encoding Variational Bayes" (2014): 784-400-20, Adam. --beta gives Higgins
et al.'s β-VAE (2017), --warm-up raises β linearly over the first steps. --classes: Sohn et al.'s
conditional VAE (2015), a bound of log p(x | y), with an encoder that sees the image alone.

    python -m experiments.vae_fashion

15 s on two CPU cores. Expect a bound of 245 nats on held-out images (18 of them KL) and soft,
varied clothes: on 6,000 images more steps only overfit.
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
from genjax.limits import Natural, NonNegative, Positive, Width
from genjax.losses import vae
from genjax.losses.likelihoods import bernoulli_nll
from genjax.models import autoencoder
from genjax.run import Family, Measure, Settings
from genjax.train import rates
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=4000, batch=128, every=1000)
    data: DataSettings = DataSettings()
    conv: bool = False
    """Convolutions instead of dense layers."""
    latent: Width = 20
    """Numbers in a code."""
    hidden: Width = 400
    """Width of the dense layers."""
    beta: NonNegative = 1.0
    """Weight of the KL term."""
    warm_up: Natural = 0
    """Steps over which that weight rises from 0."""
    classes: bool = False
    """Condition the decoder on the class."""
    learning_rate: Positive = 1e-3
    optimizer: Optimizer = Optimizer()
    check = checks.vae
    suggest = suggestions.vae


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    if config.conv:
        network = autoencoder.ConvEncoder(latent=2 * config.latent)
        decoder = autoencoder.ConvDecoder(spec.shape, classes=classes)
    else:
        network = autoencoder.DenseEncoder((config.hidden,), 2 * config.latent)
        decoder = autoencoder.DenseDecoder(spec.shape, (config.hidden,), classes=classes)
    encoder = autoencoder.GaussianEncoder(network)

    def init(key, before):
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, config.latent))
        keys = jax.random.split(key)
        params = {"encoder": encoder.init(keys[0], x), "decoder": decoder.init(keys[1], z)}
        return {"vae": params}, {}

    def apply(score, params, keys, batch, **options):  # score: of the arguments of vae.elbo
        encode = partial(encoder.apply, params["encoder"])
        label = batch["label"] if classes else None  # the encoder sees it in the image
        decode = partial(decoder.apply, params["decoder"], label=label)
        return score(encode, decode, batch["image"] / 255, keys, nll=bernoulli_nll, **options)

    def loss(params, state, keys, batch):
        parts = apply(vae.elbo, params["vae"], keys, batch)
        beta = config.beta * rates.linear_ramp(state.step, config.warm_up)
        return parts.loss(beta).mean(), Aux({"nll": parts.nll.mean(), "kl": parts.kl.mean()})

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(decoder.apply(state.params["vae"]["decoder"], z, label))

    def posterior(state, batch):
        return encoder.apply(state.params["vae"]["encoder"], batch["image"] / 255)

    def validate(state, keys, batch):
        return apply(elbo_scores, state.params["vae"], keys, batch)

    def measure(state, keys, batch):  # on grey values a cross entropy, not a likelihood
        return apply(vae_scores, state.params["vae"], keys, batch, samples=5000)

    return Family(
        {"vae": config.optimizer.player(loss, config.learning_rate)},
        init,
        generate,
        latent=(config.latent,),
        classes=classes,
        encode=lambda state, image: posterior(state, {"image": image})[0],
        validate=validate,
        profile=kl_per_dimension(posterior),
        measure=Measure(measure, vae_units(5000), alarms={"effective_samples": 10}),
    )


if __name__ == "__main__":
    main("vae_fashion", __doc__, Config(), build)
