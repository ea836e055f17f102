"""The dense autoencoder 784-64-16-64-784, or its convolutional sibling, on Fashion-MNIST.

Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks" (2006), in
today's form: ReLU, sigmoid output, squared error, Adam. A Gaussian fitted to the codes makes new
images: blurred ones, because nothing asks the codes to fill that Gaussian.

    python -m experiments.autoencoder_fashion

10 s on two CPU cores. Expect a squared error of 0.0149 a pixel on held-out images, reconstructions
that keep shape and shade but lose print and texture, and ghostly samples.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.losses.autoencoder import squared_error
from genjax.models import autoencoder, codes
from genjax.run import Family, Settings
from genjax.train.game import Aux, Player


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=10_000, batch=128, every=2500)
    data: DataSettings = DataSettings()
    conv: bool = False
    """Convolutions instead of dense layers."""
    latent: int = 16
    """Numbers in a code."""
    learning_rate: float = 1e-3


def build(config: Config, spec: ImageSpec) -> Family:
    if config.conv:
        encoder = autoencoder.ConvEncoder(latent=config.latent)
        decoder = autoencoder.ConvDecoder(spec.shape)
    else:
        encoder = autoencoder.DenseEncoder(latent=config.latent)
        decoder = autoencoder.DenseDecoder(spec.shape)

    def init(key, before):
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, config.latent))
        keys = jax.random.split(key)
        params = {"encoder": encoder.init(keys[0], x), "decoder": decoder.init(keys[1], z)}
        return {"autoencoder": params}, {"autoencoder": codes.standard(config.latent)}

    def encode(params, image):
        return encoder.apply(params["encoder"], image / 255)

    def decode(params, code):
        return jax.nn.sigmoid(decoder.apply(params["decoder"], code))

    def error(params, batch):
        return (
            squared_error(  # per pixel, as in the Keras tutorials
                lambda x: encoder.apply(params["encoder"], x),
                lambda z: decode(params, z),
                batch["image"] / 255,
            )
            / batch["image"][0].size
        )

    def loss(params, state, keys, batch):
        own = params["autoencoder"]
        moments = codes.update(state.variables["autoencoder"], encode(own, batch["image"]))
        return error(own, batch).mean(), Aux(variables={"autoencoder": moments})

    return Family(
        game={"autoencoder": Player(loss, optax.adam(config.learning_rate))},
        init=init,
        latent=(config.latent,),
        generate=lambda state, key, z, label: decode(
            state.params["autoencoder"], codes.colour(state.variables["autoencoder"], z)
        ),
        encode=lambda state, image: codes.whiten(
            state.variables["autoencoder"], encode(state.params["autoencoder"], image)
        ),
        validate=lambda state, keys, batch: {"mse": error(state.params["autoencoder"], batch)},
    )


if __name__ == "__main__":
    main("autoencoder_fashion", __doc__, Config(), build)
