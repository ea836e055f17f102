"""MADE: a masked autoencoder of binary images, with exact likelihoods, drawn pixel by pixel.

Germain et al., "MADE: Masked Autoencoder for Distribution Estimation" (2015). Every pixel is drawn
as 0 or 1 from its grey value each time an image is seen; images that are binary already, such as
binarized_mnist, stay as they are. --classes makes it p(x | y).

    python -m experiments.made

Expect 240 nats on held-out binarised clothes after 1,500 steps, and samples whose outlines are made
of scattered pixels.

--preset mnist: the paper's layer of 8,000 units on the fixed binarisation of MNIST (--data.dir
DIR), with Adam in place of AdaGrad, one order of the pixels and one mask.
"""

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp

from experiments import checks, suggestions
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.keys import per_example, uniform
from genjax.limits import Positive, Share, Widths
from genjax.losses.augmentation import binarize
from genjax.losses.likelihoods import bernoulli_nll
from genjax.models.masked import MADE, draw_binary
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=4000, batch=100, every=1000)
    data: DataSettings = DataSettings()
    widths: Widths = (1000,)
    """Units of each hidden layer."""
    classes: bool = False
    """Condition on the class."""
    learning_rate: Positive = 1e-3
    ema: Share = 0.999
    """Decay of the moving average that samples and scores come from."""
    optimizer: Optimizer = Optimizer()
    check = checks.labelled
    suggest = suggestions.made


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    network = MADE(config.widths, classes)

    def init(key, before):
        return {"made": network.init(key, jnp.zeros((1, *spec.shape)))}, {}

    def nll(params, keys, batch):
        x = binarize(batch["image"] / 255, keys)
        label = batch["label"] if classes else None
        return bernoulli_nll(network.apply(params, x, label), x)

    def loss(params, state, keys, batch):
        return nll(params["made"], keys, batch).mean(), Aux()

    def scores(state, keys, batch):
        return {"negative_log_likelihood": nll(state.ema["made"], keys, batch)}

    def generate(state, keys, z, label):
        return draw_binary(partial(network.apply, state.ema["made"], label=label), z)

    return Family(
        {"made": config.optimizer.player(loss, config.learning_rate, ema=config.ema)},
        init,
        generate,
        draw=lambda key, n: uniform(per_example(key, n), (n, *spec.shape)),
        classes=classes,
        validate=scores,
        measure=Measure(scores, {"negative_log_likelihood": "nats"}, n=10_000),
    )


MNIST = Config(
    widths=(8000,), data=DataSettings("binarized_mnist"),
    run=Settings(steps=250_000, batch=100, every=5000),
)  # fmt: skip

if __name__ == "__main__":
    main("made", __doc__, Config(), build, {"mnist": MNIST})
