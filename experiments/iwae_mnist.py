"""The importance-weighted autoencoder, and the VAE beside it, on binary MNIST.

Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016): tanh networks, --layers 1
(784-200-200-50) or 2 (784-200-200-100, 100-100-100-50), --k samples of --objective iwae or vae, on
the fixed binarisation of Larochelle & Murray (2011), or with --preset dynamic on fresh binary draws
of MNIST's grey values each time an image is seen.

    python -m experiments.iwae_mnist --data.dir DIR       # then: evaluate

The paper's schedule is 3,280 epochs: 3^i of them at the rate 0.001·10^(−i/7), i = 0 … 7. A shorter
run is its beginning: --run.steps 910000 ends with i = 5 (364 epochs). binarized_mnist and mnist are
TFDS sets, which --data.download prepares where TensorFlow is installed.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from genjax.cli.main import main
from genjax.data import Dataset, DataSettings, ImageSpec
from genjax.losses import importance, likelihoods
from genjax.models.autoencoder import DenseDecoder, DenseEncoder, GaussianEncoder
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux, Player


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=8_200_000, batch=20, every=12_500, scan_steps=2500)
    data: DataSettings = DataSettings("binarized_mnist")
    objective: Literal["iwae", "vae"] = "iwae"
    """The bound of k samples, or the mean of k samples of the ELBO."""
    k: int = 1
    """Samples of each image's posterior; at 1 the two objectives are one."""
    layers: Literal[1, 2] = 1
    """Stochastic layers."""
    dynamic: bool = False
    """Draw every pixel anew from its grey value."""


UNITS = {
    "negative_log_likelihood": "nats",  # 5,000 importance samples
    "negative_elbo": "nats",
    "nll": "nats",
    "kl": "nats",
    "effective_samples": "of 5,000",
}

DYNAMIC = Config(
    run=Settings(steps=9_840_000, batch=20, every=15_000, scan_steps=3000),
    data=DataSettings("mnist"),
    dynamic=True,
)


def build(config: Config, spec: ImageSpec) -> Family:
    style = {"activation": nn.tanh, "kernel_init": nn.initializers.glorot_uniform()}

    def mean_image():
        images = Dataset(config.data).train
        some = images.source[np.arange(len(images))]["image"]
        return np.clip(some.mean(0, np.float64) / 255, 0.001, 0.999).astype(np.float32).ravel()

    def output_bias(key, shape, dtype):
        # A callback: the data are read when the bias is drawn, not when its shape is asked for.
        p = jax.pure_callback(mean_image, jax.ShapeDtypeStruct(shape, jnp.float32))
        return jnp.log(p / (1 - p)).astype(dtype)

    def gaussian(width, outputs):  # -> mean, log σ
        return GaussianEncoder(DenseEncoder((width, width), 2 * outputs, **style))

    latents = (50,) if config.layers == 1 else (100, 50)
    networks = {
        "p1": DenseDecoder(spec.shape, (200, 200), bias_init=output_bias, **style),
        "q1": gaussian(200, latents[0]),
    }
    if config.layers == 2:
        networks |= {"q2": gaussian(100, 50), "p2": gaussian(100, 100)}

    def init(key, before):
        inputs = {"q1": jnp.zeros((1, *spec.shape)), "p1": jnp.zeros((1, latents[0]))}
        inputs |= {"q2": jnp.zeros((1, 100)), "p2": jnp.zeros((1, 50))}
        keys = dict(zip(networks, jax.random.split(key, len(networks)), strict=True))
        return {"vae": {n: networks[n].init(keys[n], inputs[n]) for n in networks}}, {}

    def gaussian_nll(parameters, h):
        mean, log_sigma = parameters
        return likelihoods.gaussian_learned_variance_nll((mean, 2 * log_sigma), h)

    def parts(params, noise, x):
        """−log p(x|h₁) and log q(h₁, …|x)/p(h₁, …), [B] each, at h₁ = μ₁(x) + σ₁(x)·noise₁ etc."""
        below, nll, kl = x, 0.0, 0.0
        for layer, u in enumerate(jnp.split(noise, latents[:-1], axis=-1), 1):
            mean, log_sigma = networks[f"q{layer}"].apply(params[f"q{layer}"], below)
            h = mean + jnp.exp(log_sigma) * u
            above = networks[f"p{layer}"].apply(params[f"p{layer}"], h)
            if layer == 1:
                nll = likelihoods.bernoulli_nll(above, x)
            else:
                kl += gaussian_nll(above, below)
            kl -= likelihoods.gaussian_nll(jnp.zeros_like(u), u) + log_sigma.sum(-1)
            below = h
        return nll, kl + likelihoods.gaussian_nll(jnp.zeros_like(below), below)

    def bound(estimate, params, keys, x, samples):
        # To the losses the noise is the latent: its posterior is its prior, which leaves the
        # weight to the likelihood, for one layer and two.
        still = jnp.zeros((len(x), sum(latents)))
        return estimate(
            lambda x: (still, still),
            lambda noise: noise,
            x,
            keys,
            nll=lambda noise, x: sum(parts(params, noise, x)),
            samples=samples,
        )

    def vae(*arguments, **options):
        return -importance.log_weights(*arguments, **options).mean(0)

    def binary(keys, batch):
        grey = batch["image"] / 255
        if not config.dynamic:
            return grey
        return jax.vmap(jax.random.bernoulli)(keys, grey).astype(grey.dtype)

    def scores(params, keys, batch, samples, estimate):
        draw, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        return bound(estimate, params, keys, binary(draw, batch), samples)

    def loss(params, state, keys, batch):
        estimate = {"iwae": importance.iwae, "vae": vae}[config.objective]
        return scores(params["vae"], keys, batch, config.k, estimate).mean(), Aux()

    def validate(state, keys, batch):
        params = state.params["vae"]
        return {
            "negative_iwae_50": scores(params, keys, batch, 50, importance.iwae),
            "negative_elbo": scores(params, keys, batch, 1, vae),
        }

    def measure(state, keys, batch):
        params, keys = state.params["vae"], jax.vmap(lambda k: jax.random.split(k, 3))(keys)
        x = binary(keys[:, 0], batch)
        noise = jax.vmap(lambda k: jax.random.normal(k, (sum(latents),)))(keys[:, 1])
        nll, kl = parts(params, noise, x)
        estimate = bound(importance.log_likelihood, params, keys[:, 2], x, 5000)
        return {
            "negative_log_likelihood": -estimate.log_likelihood,
            "negative_elbo": nll + kl,
            "nll": nll,
            "kl": kl,
            "effective_samples": estimate.effective_samples,
        }

    def generate(state, key, z, label):
        params = state.params["vae"]
        if config.layers == 2:
            mean, log_sigma = networks["p2"].apply(params["p2"], z)
            noise = jax.vmap(lambda k: jax.random.normal(k, (100,)))(key)
            z = mean + jnp.exp(log_sigma) * noise
        return jax.nn.sigmoid(networks["p1"].apply(params["p1"], z))

    def encode(state, image):
        params, z = state.params["vae"], image / 255
        for layer in range(1, config.layers + 1):
            z, _ = networks[f"q{layer}"].apply(params[f"q{layer}"], z)
        return z

    # 3^i epochs at the i-th rate: stage i begins after (3^i − 1)/2 epochs.
    epoch = spec.count / config.run.batch
    rate = optax.piecewise_constant_schedule(
        1e-3, {round((3**i - 1) / 2 * epoch): 10 ** (-1 / 7) for i in range(1, 8)}
    )
    return Family(
        game={"vae": Player(loss, optax.adam(rate, eps=1e-4))},
        init=init,
        latent=latents[-1:],
        generate=generate,
        validate=validate,
        encode=encode,
        measure=Measure(measure, UNITS, alarms={"effective_samples": 10}),
    )


if __name__ == "__main__":
    main("iwae_mnist", __doc__, Config(), build, {"dynamic": DYNAMIC})
