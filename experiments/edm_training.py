"""How EDM trains: noise levels, rates and averages in images, and what its networks add to that."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from genjax import keys, recipes
from genjax.diffusion import guidance, predictions
from genjax.errors import ConfigError
from genjax.limits import Count, Limits, Natural, Positive, Share
from genjax.losses import times
from genjax.losses.adaptive_augmentation import augment_with_labels
from genjax.models.magnitude_preserving import forced_normalization
from genjax.train import averages, rates
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class TrainingSettings:
    """A base class for the settings of an experiment that trains as EDM does."""

    data_std: Positive = 0.7
    """Standard deviation of the data in −1..1, by which the network's input and output are
    scaled."""
    noise_mean: float = -0.8
    """Mean of the logarithm of the noise levels that are trained on; -1.2 in the paper, for data of
    a smaller deviation."""
    noise_std: Positive = 1.2
    """Standard deviation of that logarithm."""
    learning_rate: Positive = 2e-3
    warm_up: Natural = 3200
    """Images over which the learning rate rises from 0."""
    reference: Count | None = 16_000
    """Images after which the rate falls as one over the root of their number. None: it stays."""
    b2: Share = 0.999
    """Adam's beta_2."""
    half_life: tuple[Count, ...] = (3000,)
    """Images in which a moving average of the weights forgets half; at first a twentieth of those
    seen. Several keep several averages; samples come from the first of all."""
    lengths: tuple[Annotated[float, Limits(0, 12**-0.5, above=True)], ...] = ()
    """Power-function averages to keep, by their relative standard deviations, such as 0.05 0.1. Of
    two, averages of other lengths are made afterwards (--average)."""
    label_dropout: Share = 0.1
    """Share of the images that are trained on without their class, for --guidance."""
    augment: Share = 0.0
    """Probability of each of EDM's augmentations, whose parameters are inputs of the network."""
    optimizer: Optimizer = Optimizer()

    @property
    def recipe(self):
        """Schedule, target, times and inputs of the network."""
        levels = times.LogNormal(recipes.edm.schedule, self.noise_mean, self.noise_std)
        return replace(recipes.edm, target=predictions.Preconditioned(self.data_std), times=levels)

    def examples(self, batch, key, classes):
        """Images −1..1 of a batch to train on, and what else the network takes, by name."""
        dropout, drop, change = keys.split(key, 3)
        x, given = batch["image"] / 127.5 - 1, {"keys": dropout}
        if classes:
            share = {"classes": classes, "probability": self.label_dropout}
            given["label"] = guidance.drop_labels(batch["label"], drop, **share)
        if self.augment:
            x, given["augment"] = augment_with_labels(x, change, self.augment)
        return x, given

    def averages(self):
        """The moving averages, as of a `Player`."""
        batch = self.run.batch
        kept = {f"{h}": averages.half_life(h, batch=batch) for h in self.half_life}
        if len(kept) == 1 and not self.lengths:
            return next(iter(kept.values()))
        return kept | {f"{length:g}": averages.power_function(length) for length in self.lengths}

    def player(self, loss):
        """The player that trains the network."""
        steps = partial(rates.steps_of_images, batch=self.run.batch)
        if self.reference is None:
            rate = rates.warm_up(self.learning_rate, steps(self.warm_up))
        else:
            reference = steps(self.reference)
            rate = rates.inverse_square_root(self.learning_rate, reference, steps(self.warm_up))
        project = forced_normalization if self.network == "edm2" else None
        return self.optimizer.player(loss, rate, ema=self.averages(), project=project, b2=self.b2)

    def check_training(self):
        """Refuses settings that do not fit each other."""
        if not (self.half_life or self.lengths):
            raise ConfigError("--half-life and --lengths are both empty: name an average to keep")
        if self.network == "edm2" and self.augment:
            raise ConfigError("--augment has no effect with --network edm2")
