"""What experiments share whose transformer knows the mean velocity between two times.

Its mean over a step is what one step needs, so that one is a sample; over no time it is the
velocity, by which the family scores, inverts and edits as flow matching does.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import matching, suggestions
from experiments.sampling import PixelSamplerSettings, Sampler, Steps
from experiments.transformer_training import TransformerTraining
from genjax import keys
from genjax.data import DataSettings
from genjax.diffusion import few_step, steps
from genjax.limits import Positive
from genjax.losses.diffusion import denoising
from genjax.recipes import rectified_flow
from genjax.run import Settings
from genjax.train.game import Aux

NAME, COMPARED = "transformer", (32, 8, 2)  # numbers of steps beside the run's in a trajectory


@dataclass(frozen=True)
class MeanVelocitySettings(TransformerTraining):
    run: Settings = Settings(steps=1200, batch=32, every=400)
    data: DataSettings = DataSettings()
    sampling_steps: Steps = 1
    """Steps of a sample. Edits and likelihoods take many of the velocity's."""
    output: Literal["velocity", "data"] = field(
        default="data", metadata={"absent": lambda values: "velocity"}
    )
    """What the network's output stands for; the loss is that of the mean velocity either way."""
    guidance: Positive = 2.0
    """Scale of classifier-free guidance, where there are classes: learned in training, so that a
    step still costs one evaluation."""
    suggest = suggestions.mean_velocity


@dataclass(frozen=True)
class _Velocity(PixelSamplerSettings):
    """How the velocity is followed; guidance is learned already."""

    sampler: Sampler = "heun"
    sampling_steps: Steps = 25
    guidance: float = 1.0


class _OfData:
    """The mean velocity (z - x) / t of a network whose output x is like an image.

    Images lie near fewer dimensions than the noise in velocities: Lu et al., "One-step Latent-free
    Image Generation with Pixel Mean Flows" (2026), arXiv:2601.22158. The least t is JiT's.
    """

    def __init__(self, network):
        self.init, self.network = network.init, network

    def apply(self, params, z, t, label=None, *, span, keys=None):
        x = self.network.apply(params, z, t, label, span=span, keys=keys)
        return (z - x) / jnp.maximum(t, 0.05)[:, None, None, None]


class _Now:
    """The network over no time: the velocity, as flow matching calls it."""

    def __init__(self, network):
        self.network = network

    def init(self, key, z, t):
        return self.network.init(key, z, t, span=t)

    def apply(self, params, z, t, label=None, *, keys=None):
        return self.network.apply(params, z, t, label, span=jnp.zeros_like(t), keys=keys)


def family(config, spec, loss):
    """The family of a loss: (mean, x, key, params, state, label, classes) -> [B].

    mean(params, label, keys=None) is a function (z, t, d) -> the mean velocity from t to t − d.
    """
    classes = spec.classes_for("--classes") if config.classes else None
    network = config.transformer(classes, spans=True)
    network = _OfData(network) if config.output == "data" else network

    def mean(params, label, keys=None):
        return lambda z, t, d: network.apply(params, z, t, label, span=d, keys=keys)

    def train_loss(params, state, key, batch):
        key, drop, change = keys.split(key, 3)
        x, label = matching.inputs(config, batch, change, classes, True)
        u = partial(mean, keys=drop)
        return loss(u, x, key, params[NAME], state, label, classes).mean(), Aux()

    def sample(state, z, label, n):
        u = mean(state.ema[NAME], label)
        how = {"start": z, "steps": steps.linear(n)}
        return few_step.meanflow(lambda z, r, t: u(z, t, t - r), None, z.shape, **how)

    def generate(state, key, z, label):
        return (sample(state, z, label, config.sampling_steps) + 1) / 2

    def trajectory(state, key, z, label):
        counts = [n for n in COMPARED if n != config.sampling_steps]
        shown = [z, *(sample(state, z, label, n) for n in (*counts, config.sampling_steps))]
        return (jnp.stack(shown, 1) + 1) / 2

    def measure(state, key, batch):
        found = base.measure.scores(state, key, batch)
        z = jax.vmap(lambda k: jax.random.normal(k, spec.shape))(keys.split(key, 1)[0])
        label = batch["label"] if classes else None
        one, many = (sample(state, z, label, n) for n in (1, COMPARED[0]))
        return found | {"one_step": jnp.square(one - many).mean((1, 2, 3))}

    scored = matching.scored(config.products(spec.shape))
    flow = partial(denoising, schedule=rectified_flow.schedule, target=rectified_flow.target)
    how = {"classes": classes, "sampling": _Velocity()}
    base = matching.family(config, spec, NAME, _Now(network), flow, config.rate, scored, **how)
    game = {NAME: config.optimizer.player(train_loss, config.rate, ema=config.ema, b2=config.b2)}
    units = base.measure.units | {"one_step": "mse to 32 steps"}
    measured = replace(base.measure, scores=measure, units=units)
    return replace(base, game=game, generate=generate, trajectory=trajectory, measure=measured)
