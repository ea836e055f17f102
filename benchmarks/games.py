"""The games that are timed: genjax's networks and losses as its experiments put them together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.cases import ConvVae, Dcgan, LucidUNet, Network, UNet, Vae
from benchmarks.linen_unet import LucidUNet as LinenLucidUNet
from genjax.diffusion import discrete_schedules, predictions
from genjax.losses import gan, likelihoods, vae
from genjax.losses.diffusion import denoising
from genjax.losses.times import Steps
from genjax.models import autoencoder, dcgan, unet
from genjax.train.game import Aux, Game, Player

LEVELS = 1000
EMA = 0.999
SCHEDULE = discrete_schedules.DiscreteLinear(LEVELS)


@dataclass(frozen=True)
class Timed:
    """A game; its initial state, init(key) -> (params, variables); and the noise of its losses.

    draws(keys, images) -> {name: array [B, ...]} repeats, per player, what each loss draws from its
    keys, so that a twin can be given the same.
    """

    game: Game
    init: Callable[[jax.Array], tuple[dict[str, Any], dict[str, Any]]]
    draws: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]


def build(network: Network, *, dtype: Any = None, dropout: bool = True) -> Timed:
    match network:
        case Vae() | ConvVae():
            return _vae(network, dtype)
        case Dcgan():
            return _dcgan(network, dtype, dropout)
        case UNet() | LucidUNet():
            return _diffusion(network, dtype)


def denoiser(network: UNet | LucidUNet, dtype: Any) -> Any:
    if isinstance(network, LucidUNet):
        return LinenLucidUNet(network.channels, network.multipliers, dtype)
    return unet.UNet(
        network.channels,
        network.multipliers,
        network.blocks,
        network.attention,
        head_features=network.head_features,
        groups=network.groups,
        dtype=dtype,
    )


def _diffusion(network: UNet | LucidUNet, dtype: Any) -> Timed:
    model = denoiser(network, dtype)

    def error(predict, x, keys):
        return denoising(
            predict, x, keys, schedule=SCHEDULE, target=predictions.noise, times=Steps(LEVELS)
        )

    def loss(params, state, keys, batch):
        x = batch["image"] / 127.5 - 1
        squares = error(lambda z, t: model.apply(params["unet"], z, t), x, keys)
        return squares.mean() / x[0].size, Aux()

    def init(key):
        return {"unet": model.init(key, jnp.zeros((1, *network.shape)), jnp.zeros(1))}, {}

    def draws(keys, images):
        seen = {}

        def predict(z, t):
            # Of black images z is σ ε.
            sigma = SCHEDULE.sigma(t)[:, None, None, None]
            seen.update(time=t * LEVELS, noise=z / sigma)
            return z

        error(predict, jnp.zeros_like(images, jnp.float32), keys)
        return seen

    return Timed({"unet": Player(loss, optax.adam(2e-4), ema=EMA)}, init, draws)


def _vae(network: Vae | ConvVae, dtype: Any) -> Timed:
    if isinstance(network, ConvVae):
        inner = autoencoder.ConvEncoder(network.widths, 2 * network.latent, dtype=dtype)
        decoder = autoencoder.ConvDecoder(network.shape, network.widths[::-1], dtype=dtype)
    else:
        inner = autoencoder.DenseEncoder((network.hidden,), 2 * network.latent, dtype=dtype)
        decoder = autoencoder.DenseDecoder(network.shape, (network.hidden,), dtype=dtype)
    encoder = autoencoder.GaussianEncoder(inner)

    def init(key):
        x, z = jnp.zeros((1, *network.shape)), jnp.zeros((1, network.latent))
        keys = jax.random.split(key)
        return {
            "vae": {"encoder": encoder.init(keys[0], x), "decoder": decoder.init(keys[1], z)}
        }, {}

    def loss(params, state, keys, batch):
        own = params["vae"]
        parts = vae.elbo(
            lambda x: encoder.apply(own["encoder"], x),
            lambda z: decoder.apply(own["decoder"], z),
            batch["image"] / 255,
            keys,
            nll=likelihoods.bernoulli_nll,
        )
        return parts.loss().mean(), Aux({"nll": parts.nll.mean(), "kl": parts.kl.mean()})

    def draws(keys, images):
        zeros = jnp.zeros((len(images), network.latent))
        return {"noise": vae.reparameterize(zeros, zeros, keys)}

    return Timed({"vae": Player(loss, optax.adam(1e-3), ema=EMA)}, init, draws)


def _dcgan(network: Dcgan, dtype: Any, dropout: bool) -> Timed:
    generator = dcgan.Generator(network.shape, network.widths, dtype=dtype)
    critic = dcgan.Critic(network.widths[:0:-1], 0.3 if dropout else 0.0, dtype=dtype)

    def init(key):
        keys = jax.random.split(key)
        z, x = jnp.zeros((1, network.latent)), jnp.zeros((1, *network.shape))
        variables = generator.init(keys[1], z)
        params = {"critic": critic.init(keys[0], x), "generator": variables.pop("params")}
        return params, {"generator": variables}

    def noise(keys):
        return jax.vmap(lambda k: jax.random.normal(k, (network.latent,)))(keys)

    def fakes(params, state, keys):
        variables = {"params": params["generator"], **state.variables["generator"]}
        return generator.apply(variables, noise(keys), train=True, mutable=["batch_stats"])

    def judge(params, images, keys):
        return critic.apply(params["critic"], images, keys=keys)

    def critic_loss(params, state, keys, batch):
        k = jax.vmap(jax.random.split, (0, None), 1)(keys, 3)
        images, _ = fakes(params, state, k[0])
        real, fake = judge(params, batch["image"] / 127.5 - 1, k[1]), judge(params, images, k[2])
        return gan.non_saturating.discriminator(real, fake).mean(), Aux()

    def generator_loss(params, state, keys, batch):
        k = jax.vmap(jax.random.split, (0, None), 1)(keys, 2)
        images, variables = fakes(params, state, k[0])
        fake = judge(params, images, k[1])
        value = gan.non_saturating.generator(None, fake).mean()
        return value, Aux(variables={"generator": variables})

    def draws(keys, images):
        split = jax.vmap(jax.random.split, (0, None), 1)
        return {"critic": noise(split(keys, 3)[0]), "generator": noise(split(keys, 2)[0])}

    optimizer = optax.adam(2e-4, b1=0.5)
    game = {
        "critic": Player(critic_loss, optimizer),
        "generator": Player(generator_loss, optimizer, ema=EMA),
    }
    return Timed(game, init, draws)
