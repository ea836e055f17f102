"""What `restore_fashion` trains: tasks, what of an image is shown, and two conditional models."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax import keys
from genjax.diffusion import predictions, schedules
from genjax.edit import operators
from genjax.evaluate.likelihood_scores import elbo_scores
from genjax.losses.diffusion import denoising
from genjax.losses.likelihoods import bernoulli_nll
from genjax.models import autoencoder

TASKS = {  # (shape, key) -> the operator
    "super2": lambda shape, key: operators.downsample_area(shape, 2),
    "super4": lambda shape, key: operators.downsample_area(shape, 4),
    "inpaint": operators.random_box,
    "colourise": lambda shape, key: operators.grey(shape),
    "deblur": lambda shape, key: operators.gaussian_blur(shape, 1.5),
    "denoise": lambda shape, key: operators.linear(lambda x: x, shape, gram=1.0),
}
NOISE = {"deblur": 0.02, "denoise": 0.5}  # standard deviation, where black is -1 and white 1
CODE_CHANNELS = 8  # of the image that a VAE's code becomes beside the observation


def observed(task, noise, shape, each, x):
    """What a network is shown of images x [B, H, W, C] in −1..1, with one key per image.

    [B, H, W, C + 1]: A⁺ y, or y itself where A is a blur, and 1 where the image was observed. All 0
    says that nothing was.
    """

    def one(key, x):
        place, drawn = jax.random.split(key)
        operator = TASKS[task](shape, place)
        y = operator(x[None])
        y = y + noise * jax.random.normal(drawn, y.shape)
        seen = y if operator.gram is None else operator.pseudo_inverse(y)
        known = jnp.ones_like(seen)
        known = operator(known) if task == "inpaint" else known
        return jnp.concatenate([seen, known[..., :1]], -1)[0]

    return jax.vmap(one)(each, x)


class Model(NamedTuple):
    """A conditional model: `shown` is what `observed` returns.

    init: key -> parameters. scores: (parameters, keys, x in −1..1, shown, train) -> {name: [B]},
    the first of which is the loss. generate: (state, keys, latents, shown or None) -> images in
    0..1. latent: shape of a latent. more: further functions of the family.
    """

    init: Callable[..., Any]
    scores: Callable[..., Any]
    generate: Callable[..., Any]
    latent: tuple[int, ...]
    more: dict[str, Any]


def beside(z, shown, channels):
    """The input of a network: z, and what it is shown; None for nothing."""
    if shown is None:
        shown = jnp.zeros((*z.shape[:-1], channels + 1), z.dtype)
    return jnp.concatenate([z, shown], -1)


def diffusion(config, spec):
    """A rectified flow whose U-Net has the observation as further channels of its input."""
    channels = spec.shape[-1]
    network = config.unet().clone(out_channels=channels)
    flow = {"schedule": schedules.RectifiedFlow(), "target": predictions.flow}

    def init(key):
        return network.init(key, beside(jnp.zeros((1, *spec.shape)), None, channels), jnp.zeros(1))

    def predict(params, shown, dropout=None):
        return lambda z, t: network.apply(params, beside(z, shown, channels), t, keys=dropout)

    def scores(params, each, x, shown, train):
        each, dropout = keys.split(each, 2)
        model = predict(params, shown, dropout if train else None)
        return {"mse": denoising(model, x, each, **flow) / x[0].size}

    drawing = config.drawing(lambda state, shown: predict(averaged(state), shown), **flow)
    return Model(init, scores, drawing.pop("generate"), spec.shape, drawing)


def conditional_vae(config, spec):
    """A VAE whose encoder sees the image and the observation, the decoder the code and the latter.

    The decoder is the U-Net of the diffusion model, without a time; where z_t was lies an image
    made of the code.
    """
    height, width, channels = spec.shape
    network = config.unet().clone(out_channels=channels)
    encoder = autoencoder.GaussianEncoder(autoencoder.ConvEncoder(latent=2 * config.latent))
    unfold = autoencoder.ConvDecoder((height, width, CODE_CHANNELS))

    def init(key):
        first, second, third = jax.random.split(key, 3)
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, config.latent))
        code = jnp.zeros((1, height, width, CODE_CHANNELS))
        return {
            "encoder": encoder.init(first, beside(x, None, channels)),
            "unfold": unfold.init(second, z),
            "unet": network.init(third, beside(code, None, channels), jnp.zeros(1)),
        }

    def decode(params, shown, z, dropout=None):
        image = beside(unfold.apply(params["unfold"], z), shown, channels)
        return network.apply(params["unet"], image, jnp.zeros(len(z)), keys=dropout)

    def scores(params, each, x, shown, train):
        each, dropout = keys.split(each, 2)

        def encode(image):
            return encoder.apply(params["encoder"], beside(2 * image - 1, shown, channels))

        decoder = partial(decode, params, shown, dropout=dropout if train else None)
        return elbo_scores(encode, decoder, (x + 1) / 2, each, nll=bernoulli_nll)

    def generate(state, each, z, shown):
        return jax.nn.sigmoid(decode(averaged(state), shown, z))

    return Model(init, scores, generate, (config.latent,), {})


def averaged(state):
    """The parameters that restore."""
    return state.averaged()["restorer"]


MODELS = {"diffusion": diffusion, "vae": conditional_vae}
