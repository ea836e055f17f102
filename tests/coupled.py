"""Small families whose losses couple the batch: the loss of an example depends on all others."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from genjax import keys as per_example
from genjax.data import DataSettings
from genjax.losses import gan, info_vae, quantized
from genjax.models.autoencoder import DenseDecoder, DenseEncoder
from genjax.models.gan import Discriminator, Generator
from genjax.run import Family, Settings
from genjax.train.game import Aux, Player

POSITIONS, WIDTH, CODES = 4, 4, 8  # of a vector-quantised image
LATENT, HIDDEN = 4, 16


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=50, batch=16, every=10)
    data: DataSettings = DataSettings()
    kind: Literal["vq_vae", "relativistic_gan", "mmd_autoencoder"] = "vq_vae"


def build(config, spec):
    kinds = {
        "vq_vae": vq_vae,
        "relativistic_gan": relativistic_gan,
        "mmd_autoencoder": mmd_autoencoder,
    }
    return kinds[config.kind](spec)


def squared_error(reconstruction, image):
    return jnp.sum((reconstruction - image) ** 2, axis=(1, 2, 3))


def vq_vae(spec):
    """Codes of a codebook that is a moving average over the batch, in the variables."""
    encoder, decoder = DenseEncoder((HIDDEN,), POSITIONS * WIDTH), DenseDecoder(spec.shape)

    def init(key, before):
        first, second, third = jax.random.split(key, 3)
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, POSITIONS * WIDTH))
        codebook = quantized.start_codebook(jax.random.normal(third, (CODES, WIDTH)))
        params = {"encoder": encoder.init(first, x), "decoder": decoder.init(second, z)}
        return {"vae": params}, {"vae": {"codebook": codebook._asdict()}}

    def encode(params, image):
        return encoder.apply(params["vae"]["encoder"], image).reshape(-1, POSITIONS, WIDTH)

    def decode(params, codes):
        return decoder.apply(params["vae"]["decoder"], codes.reshape(len(codes), -1))

    def loss(params, state, keys, batch):
        image = batch["image"] / 255
        z = encode(params, image)
        codebook = quantized.Codebook(**state.variables["vae"]["codebook"])
        found = quantized.vector_quantize(z, codebook.vectors)
        moved = quantized.update_codebook(codebook, z, found.indices, decay=0.9)
        value = squared_error(decode(params, found.codes), image) + 0.25 * found.commitment
        return value.mean(), Aux(variables={"vae": {"codebook": moved._asdict()}})

    def generate(state, key, z, label):
        vectors = state.variables["vae"]["codebook"]["vectors"]
        codes = quantized.vector_quantize(z, vectors).codes
        return jnp.clip(decode(state.averaged(), codes), 0, 1)

    return Family(
        game={"vae": Player(loss, optax.adam(1e-3), ema=0.99)},
        init=init,
        latent=(POSITIONS, WIDTH),
        generate=generate,
        validate=lambda state, keys, batch: {"zero": jnp.zeros(len(keys))},
    )


def relativistic_gan(spec):
    """A critic of real against the average fake, and the other way round."""
    generator, critic = Generator(spec.shape, (HIDDEN,)), Discriminator((HIDDEN,))
    game = gan.relativistic_average()

    def init(key, before):
        first, second = jax.random.split(key)
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, LATENT))
        return {"critic": critic.init(first, x), "generator": generator.init(second, z)}, {}

    def outputs(params, keys, batch):
        z = per_example.normal(keys, (len(keys), LATENT))
        fake = generator.apply(params["generator"], z)
        real = batch["image"] / 127.5 - 1
        return critic.apply(params["critic"], real), critic.apply(params["critic"], fake)

    def critic_loss(params, state, keys, batch):
        return game.discriminator(*outputs(params, keys, batch)).mean(), Aux()

    def generator_loss(params, state, keys, batch):
        return game.generator(*outputs(params, keys, batch)).mean(), Aux()

    # Adam would amplify the rounding error of the critic's last bias, whose gradient is zero.
    optimizer = optax.sgd(1e-3, momentum=0.9)
    return Family(
        game={
            "critic": Player(critic_loss, optimizer),
            "generator": Player(generator_loss, optimizer, ema={"short": 0.9, "long": 0.99}),
        },
        init=init,
        latent=(LATENT,),
        generate=lambda state, key, z, label: (
            (generator.apply(state.averaged("long")["generator"], z) + 1) / 2
        ),
        validate=lambda state, keys, batch: {"zero": jnp.zeros(len(keys))},
    )


def mmd_autoencoder(spec):
    """A Wasserstein autoencoder: the batch of codes is compared with samples of the prior."""
    encoder, decoder = DenseEncoder((HIDDEN,), LATENT), DenseDecoder(spec.shape, (HIDDEN,))

    def init(key, before):
        first, second = jax.random.split(key)
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, LATENT))
        params = {"encoder": encoder.init(first, x), "decoder": decoder.init(second, z)}
        return {"autoencoder": params}, {}

    def loss(params, state, keys, batch):
        image, own = batch["image"] / 255, params["autoencoder"]
        z = encoder.apply(own["encoder"], image)
        prior = per_example.normal(keys, z.shape)
        # Per pixel: the sum would drown the discrepancy.
        error = (decoder.apply(own["decoder"], z) - image) ** 2
        mmd = info_vae.mmd(z, prior)
        return error.mean() + mmd, Aux({"mmd": mmd})

    return Family(
        game={"autoencoder": Player(loss, optax.adam(1e-3))},
        init=init,
        latent=(LATENT,),
        generate=lambda state, key, z, label: jnp.clip(
            decoder.apply(state.params["autoencoder"]["decoder"], z), 0, 1
        ),
        validate=lambda state, keys, batch: {"zero": jnp.zeros(len(keys))},
    )
