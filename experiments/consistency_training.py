"""How consistency models learn: from images, from a teacher's steps, or from a teacher's weights.

The teacher is a run of `edm`: one that is there already, whose weights are read as --run.init-from
reads them, or one that is trained first.
"""

import logging
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Literal

import jax.numpy as jnp

from experiments import edm
from experiments.edm_training import TrainingSettings
from genjax import files, limits
from genjax.errors import ConfigError
from genjax.limits import Count, Limits, Natural, Positive, Share
from genjax.losses import consistency
from genjax.models.edm_settings import EDMSettings
from genjax.run import config
from genjax.run.model_card import train_flags

logger = logging.getLogger(f"genjax.{__name__}")  # whose lines are printed

Gap = Annotated[float, Limits(0, 1, above=True)]


@dataclass(frozen=True)
class ConsistencySettings(EDMSettings, TrainingSettings):
    """A base class for the settings of an experiment with consistency models."""

    method: Literal["training", "distillation", "tuning"] = "tuning"
    """training: from images alone (iCT). distillation: each step of the teacher's ODE becomes one
    of nothing (CD). tuning: on from the teacher's weights, as training is (ECT)."""
    teacher: str | None = None
    """A run or an export of edm, with the same network, to learn from. None: with --method
    distillation or tuning one is trained first."""
    teacher_steps: Natural = 700
    """Train steps of a teacher that is trained first."""
    first_gap: Gap = 0.5
    """tuning: distance of two noise levels that are made consistent, relative to the greater, at
    the start."""
    halvings: Natural = 3
    """tuning: how often it is halved, at equal distances of the --curriculum."""
    first_intervals: Count = 10
    """training: intervals between the noise levels at the start; they double at equal distances of
    the --curriculum."""
    intervals: Count = 40
    """training: intervals at the end. distillation: all along."""
    curriculum: Count | Literal["steps"] = "steps"
    """Step by which the last gap or number of intervals has had its turn: steps: the run's last."""
    huber: Positive | None = None
    """Constant of the pseudo-Huber distance. None: 0.00054 times the root of an image's numbers."""
    noise_std: Positive = 2.0
    """Standard deviation of that logarithm. distillation draws all its levels alike."""
    learning_rate: Positive = 4e-4
    label_dropout: Share = 0.0

    def __post_init__(self):
        if self.teacher is None:
            return
        limits.check(self)
        if self.run.init_from is None:
            object.__setattr__(self, "run", replace(self.run, init_from=self.teacher))

    def check_schedule(self):
        """Refuses a curriculum that contradicts itself or the run."""
        steps = self.run.steps
        if self.method == "training" and self.first_intervals > self.intervals:
            raise ConfigError(
                f"--first-intervals {self.first_intervals} must be at most --intervals "
                f"{self.intervals}"
            )
        end = self.end_of_curriculum
        if self.method == "tuning" and 0 < end <= self.halvings:
            raise ConfigError(f"--halvings {self.halvings} of the gap need more than {end:,} steps")
        if 0 < steps < end:
            logger.warning(
                "--curriculum %s is not over by --run.steps %s", f"{end:,}", f"{steps:,}"
            )

    @property
    def end_of_curriculum(self):
        """The step by which the schedule of noise levels has ended."""
        return self.run.steps if self.curriculum == "steps" else self.curriculum

    def check_teacher(self):
        """Refuses a teacher that is no run of edm, or another network."""
        if self.method != "training" and self.teacher is None and not self.teacher_steps:
            raise ConfigError(
                f"--teacher-steps 0 with --method {self.method} needs --teacher: a run or an "
                "export of edm"
            )
        if self.teacher is None:
            return
        teacher = files.user_path(self.teacher)
        if files.user_path(self.run.init_from) != teacher:
            raise ConfigError("--teacher and --run.init-from name two sets of weights: give one")
        if not (path := teacher / "config.json").exists():
            return  # what is no run is refused where its weights are read
        values = config.load(path)
        if (found := values.get("experiment")) != "edm":
            raise ConfigError(f"--teacher {self.teacher} is a run of {found}, not of edm")
        theirs = config.parse(edm.Config, values.get("config"), str(path))
        names = ("network", "channels", "multipliers", "blocks", "attention", "data_std", "classes")
        if other := train_flags(replace(self, **{n: getattr(theirs, n) for n in names}), self):
            raise ConfigError(f"--teacher {self.teacher} was trained with {other}: give the same")
        if bool(theirs.augment) != bool(self.augment):
            raise ConfigError(
                f"--teacher {self.teacher} was trained with --augment {theirs.augment}, here it is "
                f"{self.augment}: both above 0 or neither"
            )
        if (theirs.lengths or len(theirs.half_life) > 1) and "export" not in values:
            raise ConfigError(
                f"--teacher {self.teacher} keeps averages by name: give an export of it, which "
                "holds the first"
            )

    def first(self, spec):
        """The teacher's family, to be trained first or found; None where nobody teaches."""
        if self.method == "training":
            return None
        names = [field.name for field in fields(EDMSettings)]
        names += ["run", "data", "data_std", "classes", "augment", "optimizer"]
        same = {name: getattr(self, name) for name in names}
        family = edm.build(edm.Config(**same, label_dropout=0.0), spec)
        return replace(family, name="teacher", steps=0 if self.teacher else self.teacher_steps)

    def function(self, network, params, **given):
        """The consistency function (z, t) -> data of a network's parameters."""
        schedule = self.recipe.schedule

        def raw(z, t):
            return network.apply(params, z, jnp.log(schedule.sigma(t)) / 4, **given)

        return consistency.boundary(raw, schedule=schedule, data_std=self.data_std)

    def prediction(self, network, params, **given):
        """The prediction (z, t) -> `recipe.target` of a teacher's parameters."""
        return self.recipe.predict(partial(network.apply, params, **given))

    def loss(self, student, teacher, x, key, step):
        """The loss of a consistency function at a train step, [B]; teacher: its denoiser."""
        schedule = self.recipe.schedule
        how = {"schedule": schedule, "distance": partial(_pseudo_huber, constant=self.huber)}
        levels = {"schedule": schedule, "mean": self.noise_mean, "std": self.noise_std}
        if self.method == "distillation":
            solve = consistency.heun_step(teacher, schedule=schedule, target=self.recipe.target)
            how["times"] = consistency.uniform_pairs(self.intervals)
            return consistency.distillation(student, student, solve, x, key, **how)
        end = self.end_of_curriculum
        if self.method == "tuning":
            gap = consistency.halving(step, end, self.first_gap, self.halvings)
            how["times"] = consistency.gap_pairs(gap, **levels)
        else:
            ends = (self.first_intervals, self.intervals)
            intervals = consistency.doubling(step, end, *ends)
            how["times"] = consistency.lognormal_pairs(intervals, **levels)
        return consistency.training(student, student, x, key, **how)


def _pseudo_huber(a, b, constant):
    return consistency.pseudo_huber(a, b, constant)
