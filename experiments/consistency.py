"""Consistency models: EDM's network learns where the ODE ends, and draws images in one step.

--method training: Song & Dhariwal, "Improved Techniques for Training Consistency Models" (2023).
--method distillation: Song et al., "Consistency Models" (2023), of a run of `edm`. --method tuning:
Geng et al., "Consistency Models Made Easy" (2024), on from its weights. Without --teacher a teacher
is trained first.

    python -m experiments.consistency
    python -m experiments.consistency sample --sampling-steps 2 --trajectory
    python -m experiments.consistency --teacher runs/edm --method distillation

Expect clothes in one step, soft and with streaks, most of them recognisable.

--preset paper: Geng et al.'s run on CIFAR-10, with --teacher a run of `edm --preset paper
--no-classes --augment 0`; for a GPU.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from experiments import checks, suggestions
from experiments.consistency_sampling import drawing
from experiments.consistency_training import ConsistencySettings
from experiments.sampling import Steps
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import Widths
from genjax.losses.adaptive_augmentation import LABELS
from genjax.run import Family, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer

NAME = "consistency"


@dataclass(frozen=True)
class Config(ConsistencySettings):
    run: Settings = Settings(steps=900, batch=32, every=300)
    data: DataSettings = DataSettings()
    multipliers: Widths = (1, 2, 2)
    classes: bool = False
    """Condition on the class."""
    sampling_steps: Steps = 1
    """Steps of a sample: after each but the last the image gets noise again."""
    check = checks.consistency
    suggest = suggestions.consistency


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    first = config.first(spec)
    network = config.denoiser(classes, LABELS if config.augment else 0)

    def init(key, before):
        if before is None:
            return {NAME: network.init(key, jnp.zeros((1, *spec.shape)), jnp.zeros(1))}, {}
        teacher = before.averaged()["denoiser"]
        return {NAME: jax.tree.map(jnp.copy, teacher), "teacher": teacher}, {}

    def loss(params, state, key, batch):
        key, change = keys.split(key, 2)
        x, given = config.examples(batch, change, classes)
        student = config.function(network, params[NAME], **given)
        known = {name: value for name, value in given.items() if name != "keys"}
        teacher = config.prediction(network, params["teacher"], **known) if first else None
        value = config.loss(student, teacher, x, key, state.step) / x[0].size ** 0.5
        return value.mean(), Aux()

    def student(state, label):
        return config.function(network, state.averaged()[NAME], label=label)

    def teacher(state, label):
        return config.prediction(network, state.params["teacher"], label=label)

    game = {NAME: config.player(loss)}
    how = drawing(config, classes, student, teacher if first else None)
    return Family(game, init, before=first, latent=spec.shape, classes=classes, **how)


PAPER = Config(
    method="tuning", channels=128, multipliers=(2, 2, 2), blocks=4, attention=(16,), dropout=0.2,
    data_std=0.5, noise_mean=-1.1, halvings=7, teacher_steps=0, learning_rate=1e-4,
    warm_up=128_000, reference=None, half_life=(127_000,), data=DataSettings("cifar10"),
    optimizer=Optimizer("radam"), run=Settings(steps=200_000, batch=128, every=5000),
)  # fmt: skip

if __name__ == "__main__":
    main("consistency", __doc__, Config(), build, {"paper": PAPER})
