"""PixelCNN: an autoregressive convolutional network with exact likelihoods, drawn pixel by pixel.

Salimans et al., "PixelCNN++" (2017): vertical and horizontal stacks of gated residual layers (van
den Oord et al., 2016) and a mixture of logistics per pixel, in bits per dimension. --binary: one
logit per pixel, in nats, of 0 or 1 drawn from the grey value each time an image is seen.

    python -m experiments.pixelcnn

--preset mnist: its fixed binarisation (--data.dir DIR). --preset cifar10: PixelCNN++'s features,
layers, mixture, dropout and batch, 49 million parameters, for a GPU; at one resolution, not three,
so that a step costs more, without weight normalisation, its rate falling as a cosine.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import checks, suggestions
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import Count, Depth, Natural, Positive, Share, Width
from genjax.losses import likelihoods
from genjax.losses.augmentation import binarize
from genjax.losses.vlb import bits_per_dim
from genjax.models import logistic_mixture
from genjax.models.pixelcnn import PixelCNN
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer
from genjax.train.rates import warm_up_and_fall


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=1500, batch=16, every=500)
    data: DataSettings = DataSettings()
    binary: bool = False
    """Model images of 0 and 1 rather than of 256 levels."""
    channels: Width = 24
    """Features of either stack."""
    depth: Depth = 4
    """Gated layers of either stack."""
    mixture: Width = 5
    """Logistics in a pixel's mixture."""
    dropout: Share = 0.0
    """Probability of dropping an activation."""
    places: bool = field(default=True, metadata={"absent": lambda values: False})
    """Learn features of each place: where it is not all the same, as in centred images."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the network's computation; its parameters are float32 either way."""
    classes: bool = False
    """Condition on the class."""
    learning_rate: Positive = 2e-3
    warm_up: Count = 100
    """Steps over which the learning rate rises from 0."""
    decay: Natural | Literal["steps"] | None = "steps"
    """Step by which the rate has fallen to a twentieth: steps: the run's last. None: it stays."""
    ema: Share = 0.995
    """Decay of the moving average that samples and scores come from."""
    optimizer: Optimizer = Optimizer()
    check = checks.pixelcnn
    suggest = suggestions.pixelcnn


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    binary, channels, k = config.binary, spec.shape[-1], config.mixture
    several = logistic_mixture.outputs(channels, k), 1 + channels, "bits/dim"
    outputs, numbers, unit = (1, 1, "nats") if binary else several
    how = config.channels, config.depth, config.dropout, classes
    sides = spec.shape[:2] if config.places else None
    network = PixelCNN(outputs, *how, sides, jnp.dtype(config.compute))
    rate = warm_up_and_fall(config.learning_rate, config.warm_up, config.decay, config.run.steps)
    floored = partial(logistic_mixture.floored, channels=channels, k=k)

    def nll(params, key, batch, train):  # nats, or bits per dimension, [B]
        change, drop = keys.split(key, 2)
        x, label = batch["image"] / 255, batch["label"] if classes else None
        x = binarize(x, change) if binary else x
        found = network.apply(params, 2 * x - 1, label, keys=drop if train else None)
        if binary:
            return likelihoods.bernoulli_nll(found, x)
        nats = likelihoods.discretized_logistic_mixture_nll(floored(found), 2 * x - 1, low=-1.0)
        return bits_per_dim(nats, x.shape)

    def loss(params, state, key, batch):
        return nll(params["pixelcnn"], key, batch, True).mean(), Aux()

    def scores(state, key, batch):
        return {"negative_log_likelihood": nll(state.ema["pixelcnn"], key, batch, False)}

    def pick(found, z):  # a pixel in −1..1
        if binary:
            return 2.0 * (z < jax.nn.sigmoid(found)) - 1
        return logistic_mixture.draw(floored(found), z, channels, k)

    return Family(
        {"pixelcnn": config.optimizer.player(loss, rate, ema=config.ema)},
        lambda key, before: ({"pixelcnn": network.init(key, jnp.zeros((1, *spec.shape)))}, {}),
        lambda state, key, z, y: network.draw(state.ema["pixelcnn"], pick, z, y) / 2 + 0.5,
        draw=lambda key, n: keys.uniform(keys.per_example(key, n), (n, *spec.shape[:2], numbers)),
        classes=classes,
        validate=scores,
        measure=Measure(scores, {"negative_log_likelihood": unit}, n=10_000),
    )


LONG = Settings(steps=300_000, batch=96, every=5000)
MNIST = Config(LONG, DataSettings("binarized_mnist"), binary=True, channels=32, depth=6)
CIFAR10 = Config(
    LONG, DataSettings("cifar10"), channels=160, depth=30, mixture=10, dropout=0.5,
    places=False, learning_rate=1e-3, ema=0.9995,
)  # fmt: skip

if __name__ == "__main__":
    main("pixelcnn", __doc__, Config(), build, {"mnist": MNIST, "cifar10": CIFAR10})
