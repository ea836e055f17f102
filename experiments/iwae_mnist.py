"""The importance-weighted autoencoder, and the VAE beside it, on binary MNIST.

Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016): --layers 1 or 2, --k
samples of --objective iwae or vae, on the fixed binarisation of Larochelle & Murray (2011), or with
--preset dynamic on new binary draws of MNIST's grey values each time an image is seen.

    python -m experiments.iwae_mnist --data.dir DIR       # then: evaluate

The paper's schedule is 3,280 epochs: 3^i of them at the rate 0.001·10^(−i/7), i = 0 … 7. A shorter
run is its beginning: 910,000 steps end with i = 5. --data.download prepares both, by TensorFlow.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from experiments import suggestions
from genjax import keys
from genjax.cli.main import main
from genjax.data import Dataset, DataSettings, ImageSpec
from genjax.evaluate.likelihood_scores import hierarchy_scores, vae_units
from genjax.evaluate.profiles import activity_per_dimension
from genjax.limits import Count
from genjax.losses import importance
from genjax.losses.augmentation import binarize
from genjax.losses.likelihoods import bernoulli_nll, gaussian_learned_variance_nll, gaussian_nll
from genjax.models.hierarchical import iwae_networks
from genjax.models.initializers import logit_of_mean
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=8_200_000, batch=20, every=12_500, scan_steps=2500)
    data: DataSettings = DataSettings("binarized_mnist")
    objective: Literal["iwae", "vae"] = "iwae"
    """The bound of k samples, or the mean of k samples of the ELBO."""
    k: Count = 1
    """Samples of each image's posterior; at 1 the two objectives are one."""
    layers: Literal[1, 2] = 1
    """Stochastic layers."""
    dynamic: bool = False
    """Draw every pixel from its grey value each time."""
    optimizer: Optimizer = Optimizer()
    suggest = suggestions.iwae


_SETTINGS = Settings(steps=9_840_000, batch=20, every=15_000, scan_steps=3000)
DYNAMIC = Config(run=_SETTINGS, data=DataSettings("mnist"), dynamic=True)


def build(config: Config, spec: ImageSpec) -> Family:
    bias = logit_of_mean(lambda: Dataset(config.data).train.mean() / 255)
    model = iwae_networks(spec.shape, config.layers, bias)

    def init(key, before):
        return {"vae": model.init(key)}, {}

    def binary(key, batch):
        grey = batch["image"] / 255
        return binarize(grey, key) if config.dynamic else grey

    def scores(estimate, params, key, batch, samples):
        draw, key = keys.split(key, 2)
        found, x = partial(parts, model, params), binary(draw, batch)
        return importance.over_noise(estimate, found, x, key, size=model.size, samples=samples)

    def loss(params, state, key, batch):
        estimate = {"iwae": importance.iwae, "vae": importance.mean_elbo}[config.objective]
        return scores(estimate, params["vae"], key, batch, config.k).mean(), Aux()

    def validate(state, key, batch):
        params = state.params["vae"]
        return {
            "negative_iwae_50": scores(importance.iwae, params, key, batch, 50),
            "negative_elbo": scores(importance.mean_elbo, params, key, batch, 1),
        }

    def measure(state, key, batch):
        draw, noise, key = keys.split(key, 3)
        found, x = partial(parts, model, state.params["vae"]), binary(draw, batch)
        return hierarchy_scores(found, x, noise, key, size=model.size, samples=5000)

    def generate(state, key, z, label):
        return jax.nn.sigmoid(model.generate(state.params["vae"], key, z))

    def encode(state, image):
        return model.encode(state.params["vae"], image / 255)

    epoch = spec.count / config.run.batch  # 3^i of them at the i-th rate, after (3^i − 1)/2
    changes = {round((3**i - 1) / 2 * epoch): 10 ** (-1 / 7) for i in range(1, 8)}
    rate = optax.piecewise_constant_schedule(1e-3, changes)
    game = {"vae": config.optimizer.player(loss, rate, eps=1e-4)}
    more = {"validate": validate, "encode": encode, "profile": activity_per_dimension(encode)}
    more["measure"] = Measure(measure, vae_units(5000), alarms={"effective_samples": 10})
    return Family(game, init, generate, latent=(model.sizes[-1],), **more)


def parts(model, params, noise, x):
    """−log p(x|h₁) and log q(h₁, …|x)/p(h₁, …), [B] each, at h₁ = μ₁(x) + σ₁(x)·noise₁ etc."""
    kl = 0.0
    for layer in model.layers(params, noise, x):
        if layer.below is x:
            nll = bernoulli_nll(layer.prediction, x)
        else:
            mean, log_sigma = layer.prediction
            kl += gaussian_learned_variance_nll((mean, 2 * log_sigma), layer.below)
        kl -= gaussian_nll(jnp.zeros_like(layer.noise), layer.noise) + layer.log_sigma.sum(-1)
    return nll, kl + gaussian_nll(jnp.zeros_like(layer.h), layer.h)


if __name__ == "__main__":
    main("iwae_mnist", __doc__, Config(), build, {"dynamic": DYNAMIC})
