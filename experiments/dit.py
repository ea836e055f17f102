"""Flow matching with a transformer on the patches of images: DiT, SiT and JiT.

Peebles & Xie, "Scalable Diffusion Models with Transformers" (2023); Ma et al., "SiT" (2024);
Li & He, "Back to Basics: Let Denoising Generative Models Denoise" (2025): the network predicts the
image, and the loss is that of the velocity. --block dit --output velocity is SiT.

    python -m experiments.dit

Expect shirts, trousers and boots of clear outline, as in docs/dit.png; the error of held-out
images' velocity is 0.93 per pixel.

--preset paper: SiT-S/2 (33 million parameters) on CIFAR-10, for a GPU; --preset base: SiT-B/2 (130
million); --preset jit: JiT-B/16 (131 million) on ImageNet of 256 pixels, or --data.folder.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from experiments import checks, matching, suggestions
from experiments.sampling import PixelSamplerSettings, Sampler, Steps, Threshold
from experiments.transformer_training import TransformerTraining
from genjax import keys, recipes
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import Positive
from genjax.losses import times
from genjax.losses.diffusion import denoising
from genjax.models import transformer_settings as sizes
from genjax.run import SAMPLING, Family, Settings
from genjax.train.optimizers import Optimizer

OUTPUTS = {"velocity": recipes.rectified_flow, "data": recipes.jit}


@dataclass(frozen=True)
class Config(TransformerTraining, PixelSamplerSettings):
    run: Settings = Settings(steps=1500, batch=32, every=500)
    data: DataSettings = DataSettings()
    time_scale: Positive = 1000.0
    output: Literal["velocity", "data"] = "data"
    """What the network's output stands for; the loss is that of the velocity either way."""
    times_mean: float | None = 0.8
    """Mean of the logits of the training times: above 0 it favours noise. None: uniform times."""
    times_std: Positive = 0.8
    """Their standard deviation."""
    guidance: Annotated[float, SAMPLING] = 2.0
    """Scale of classifier-free guidance, where there are classes."""
    sampler: Sampler = "heun"
    sampling_steps: Steps = 25
    threshold: Threshold = "off"
    check = checks.transformer
    suggest = suggestions.transformer


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    recipe = OUTPUTS[config.output]
    how = {"schedule": recipe.schedule, "target": recipe.target, "weight": recipe.weight}
    network, loss = config.transformer(classes), partial(denoising, **how)
    when = keys.uniform_times
    if config.times_mean is not None:
        when = times.LogitNormal(config.times_mean, config.times_std)
    n = matching.scored(config.products(spec.shape))
    more = {"target": recipe.target, "classes": classes, "times": when, "b2": config.b2}
    return matching.family(config, spec, "transformer", network, loss, config.rate, n, **more)


PAPER = Config(
    **sizes.SMALL, patch=2, block="dit", time_scale=1.0, output="velocity", times_mean=None,
    classes=True, flip=True, sampling_steps=50, learning_rate=1e-4, warm_up=0, decay=None,
    ema=0.9999, b2=0.999, optimizer=Optimizer("adamw", weight_decay=0.0),
    data=DataSettings("cifar10"), run=Settings(steps=400_000, batch=256, every=5000),
)  # fmt: skip
BASE = replace(PAPER, **sizes.BASE)
JIT = Config(
    **sizes.BASE, patch=16, bottleneck=128, context=32, context_start=4, time_scale=1.0,
    classes=True, guidance=2.9, flip=True, sampling_steps=50, learning_rate=2e-4, warm_up=6250,
    decay=None, ema=0.9999, optimizer=Optimizer("adamw", weight_decay=0.0),
    data=DataSettings("imagenet2012", size=256),
    run=Settings(steps=250_000, batch=1024, every=5000),
)  # fmt: skip

if __name__ == "__main__":
    presets = {"paper": PAPER, "base": BASE, "jit": JIT}
    main("dit", __doc__, Config(), build, presets)
