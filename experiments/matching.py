"""What experiments with flow matching share: the family of a network and a loss.

Paths are straight, from data at t = 0 to noise at t = 1; the `Config` has `PixelSamplerSettings`,
`flip`, `ema` and `optimizer`, and where there are classes `guidance`.
"""

from functools import partial

import jax.numpy as jnp

from genjax import keys
from genjax.diffusion import guidance, predictions, schedules, steps
from genjax.evaluate.likelihood_scores import ode_bits_per_dim
from genjax.evaluate.profiles import per_noise_level
from genjax.losses.augmentation import horizontal_flip
from genjax.run import Family, Measure
from genjax.train.game import Aux

UNITS = {"ode": "bits/dim"}  # at uniformly dequantised images, an upper bound in expectation


def scored(products):
    """Images that `evaluate` scores in some three minutes on two cores, by a network's size."""
    return min(80, max(2, round(80 * 6e7 / products)))


def inputs(config, batch, key, classes, train):
    """Images in −1..1 and labels, None without classes; some of both changed in training."""
    x, label = batch["image"] / 127.5 - 1, batch["label"] if classes else None
    if config.flip and train:
        x = horizontal_flip(x, key)
    if classes and train:
        label = guidance.drop_labels(label, keys.fold_in(key, 1), classes=classes)
    return x, label


def psnr(again, image):
    """Peak signal-to-noise ratio, dB [B], of images in 0..1 to uint8 ones."""
    gap = jnp.clip(again, 0, 1) - image / 255
    return -10 * jnp.log10(jnp.square(gap).mean((1, 2, 3)))


def family(
    config, spec, name, network, loss, rate, n, *, target=predictions.flow, classes=None,
    times=keys.uniform_times, sampling=None, **adam,
):  # fmt: skip
    """The family of one player.

    name: of the player. loss: (predict, x, key, times=) -> [B], of a network that predicts
    `target`. rate: the learning rate by step. n: images that `evaluate` scores where nobody
    says how many. times: of the training; held-out images have uniform ones. sampling: the
    settings of the sampler, and the scale of guidance; None for the `Config`'s.
    """
    sampling = sampling or config
    how = {"schedule": schedules.RectifiedFlow(), "target": target}

    def init(key, before):
        return {name: network.init(key, jnp.zeros((1, *spec.shape)), jnp.zeros(1))}, {}

    def error(params, key, batch, train, when=keys.uniform_times):
        key, drop, change = keys.split(key, 3)
        x, label = inputs(config, batch, change, classes, train)
        predict = partial(network.apply, params, label=label, keys=drop if train else None)
        return loss(predict, x, key, times=when) / x[0].size

    def train_loss(params, state, key, batch):
        return error(params[name], key, batch, True, times).mean(), Aux()

    def validate(state, key, batch, *when):
        return {"mse": error(state.ema[name], key, batch, False, *when)}

    def measure(state, key, batch):
        shift, probe = keys.split(key, 2)
        label = batch["label"] if classes else None
        predict = partial(network.apply, state.ema[name], label=label)
        grid = steps.quadratic(50)
        return {"ode": ode_bits_per_dim(predict, batch["image"], shift, probe, grid=grid, **how)}

    def guided(state, label):
        predict = partial(network.apply, state.ema[name], label=label)
        if not classes or sampling.guidance == 1:
            return predict
        unconditional = partial(network.apply, state.ema[name])
        return guidance.classifier_free(predict, unconditional, scale=sampling.guidance)

    return Family(
        {name: config.optimizer.player(train_loss, rate, ema=config.ema, **adam)},
        init,
        latent=spec.shape,
        classes=classes,
        validate=validate,
        profile=per_noise_level(validate),
        measure=Measure(measure, UNITS, chunk=50, n=n),
        **sampling.drawing(guided, **how),
    )
