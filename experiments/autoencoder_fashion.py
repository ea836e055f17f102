"""The dense autoencoder 784-64-16-64-784, or its convolutional sibling, on Fashion-MNIST.

Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks" (2006), in
today's form: ReLU, sigmoid output, squared error, Adam. Nothing asks the codes to fill a Gaussian,
which is what samples while training come from. `sample` fits a mixture of Gaussians to them (Ghosh
et al., 2020); --prior gaussian goes without.

    python -m experiments.autoencoder_fashion

10 s on two CPU cores. Expect a squared error of 0.0149 a pixel on held-out images, reconstructions
that keep shape and shade but lose print and texture. So do the samples of the mixture, a few of
which are blurs; of the Gaussian's, every second one is.
"""

from dataclasses import dataclass
from functools import partial

from experiments import checks, suggestions
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import Positive, Width
from genjax.losses.autoencoder import squared_error
from genjax.models import autoencoder, codes
from genjax.models.whitened import WhitenedAutoencoder
from genjax.run import Family, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=10_000, batch=128, every=2500)
    data: DataSettings = DataSettings()
    conv: bool = False
    """Convolutions instead of dense layers."""
    latent: Width = 16
    """Numbers in a code."""
    learning_rate: Positive = 1e-3
    optimizer: Optimizer = Optimizer()
    check = checks.autoencoder
    suggest = suggestions.autoencoder


def build(config: Config, spec: ImageSpec) -> Family:
    if config.conv:
        encoder = autoencoder.ConvEncoder(latent=config.latent)
        decoder = autoencoder.ConvDecoder(spec.shape)
    else:
        encoder = autoencoder.DenseEncoder(latent=config.latent)
        decoder = autoencoder.DenseDecoder(spec.shape)

    model = WhitenedAutoencoder(encoder, decoder, spec.shape, config.latent)

    def mse(code, image, x):  # per pixel, as in the Keras tutorials
        return squared_error(code, image, x) / x[0].size

    return whitened_family(config, model, lambda *of: (mse(*of), {}), mse, mixture=True)


def whitened_family(config, model, objective, mse, **options) -> Family:
    """objective: (code, image, x) -> losses [B] and metrics; mse: (code, image, x) -> [B]."""

    def init(key, before):
        params, moments = model.init(key)
        return {"autoencoder": params}, {"autoencoder": moments}

    def apply(function, params, batch):
        own = params["autoencoder"]
        return function(partial(model.code, own), partial(model.image, own), batch["image"] / 255)

    def loss(params, state, keys, batch):
        code = model.code(params["autoencoder"], batch["image"] / 255)
        moments = codes.update(state.variables["autoencoder"], code)
        losses, metrics = apply(objective, params, batch)
        return losses.mean(), Aux(metrics, {"autoencoder": moments})

    def generate(state, keys, z, label):
        return model.decode(state.params["autoencoder"], state.variables["autoencoder"], z)

    def encode(state, image):
        own = state.params["autoencoder"], state.variables["autoencoder"]
        return model.encode(*own, image / 255)

    return Family(
        {"autoencoder": config.optimizer.player(loss, config.learning_rate)},
        init,
        generate,
        latent=(model.latent,),
        encode=encode,
        validate=lambda state, keys, batch: {"mse": apply(mse, state.params, batch)},
        **options,
    )


if __name__ == "__main__":
    main("autoencoder_fashion", __doc__, Config(), build)
