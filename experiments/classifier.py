"""A small convolutional classifier, whose features and labels judge what other models draw.

Scores of samples need features, audits need classes: trained on the set that the samples should
look like, this network knows what matters there, where a network of photographs does not. The
command `evaluate` tells how far to trust it: error, confusion matrix and calibration on held-out
images. `export` writes what `genjax.run.load_classifier` reads.

    python -m experiments.classifier              # any labelled set: --data.folder, --data.name
    python -m experiments.classifier evaluate
    python -m experiments.classifier export --to my_classifier
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax

from experiments import checks, suggestions
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.keys import fold_in, split
from genjax.limits import Positive, Share, Width, Widths
from genjax.losses.augmentation import horizontal_flip, translation
from genjax.losses.likelihoods import categorical_nll
from genjax.models.classifier import Classifier
from genjax.run import Family, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=1200, batch=64, every=300)
    data: DataSettings = DataSettings()
    widths: Widths = (16, 32)
    """Channels of each convolution, which halves the sides."""
    features: Width = 128
    """Width of the layer before the last."""
    dropout: Share = 0.4
    """Probability of zeroing a feature."""
    flip: bool = False
    """Mirror half of the training images."""
    shift: Share = 0.0
    """The largest shift of a training image, as a share of its height and width."""
    learning_rate: Positive = 2e-3
    """At the start; it falls to 0 along a cosine."""
    optimizer: Optimizer = Optimizer()
    check = checks.classifier
    suggest = suggestions.classifier


def build(config: Config, spec: ImageSpec) -> Family:
    network = Classifier(config.widths, config.features, spec.classes, config.dropout)

    def init(key, before):
        return {"classifier": network.init(key, jnp.zeros((1, *spec.shape)))}, {}

    def loss(params, state, keys, batch):
        flipping, dropping = split(keys, 2)
        images = batch["image"] / 255
        images = horizontal_flip(images, flipping) if config.flip else images
        if config.shift:
            images = translation(images, fold_in(flipping, 1), ratio=config.shift)
        _, logits = network.apply(params["classifier"], images, keys=dropping)
        error = (logits.argmax(-1) != batch["label"]).mean()
        return categorical_nll(logits, batch["label"]).mean(), Aux({"error": error})

    def classify(state, images):
        return network.apply(state.averaged()["classifier"], images / 255)

    def validate(state, keys, batch):
        _, logits = classify(state, batch["image"])
        wrong = (logits.argmax(-1) != batch["label"]).astype(jnp.float32)
        return {"error": wrong, "negative_log_likelihood": categorical_nll(logits, batch["label"])}

    rate = optax.cosine_decay_schedule(config.learning_rate, max(1, config.run.steps))
    player = config.optimizer.player(loss, rate, ema=0.99)
    return Family({"classifier": player}, init, None, validate=validate, classify=classify)


if __name__ == "__main__":
    main("classifier", __doc__, Config(), build)
