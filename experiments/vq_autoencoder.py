"""The first stage of experiments with codes: a spatial autoencoder whose latents are quantised.

van den Oord et al., "Neural Discrete Representation Learning" (2017). The `Config` has the section
`autoencoder: AutoencoderSettings` and `quantizer`, `flip`, `decay`, `warm_up`, `compute` and
`optimizer`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from experiments.matching import inputs, psnr
from genjax import keys
from genjax.errors import ConfigError
from genjax.limits import (
    Counts,
    Depth,
    Limits,
    Natural,
    NonNegative,
    Positive,
    Share,
    Width,
    check_sides,
)
from genjax.losses import quantized
from genjax.models.vq_autoencoder import Decoder, Encoder
from genjax.run import Family
from genjax.train.game import Aux
from genjax.train.rates import warm_up_and_fall

NAME = "autoencoder"  # whose parameters and codebooks later stages keep
Quantizer = Literal["vq", "fsq", "residual"]


@dataclass(frozen=True)
class AutoencoderSettings:
    steps: Natural = 3000
    """Train steps of the autoencoder; --run.steps are the prior's."""
    channels: Width = 64
    """Channels at the resolution of the codes; half as many next to the image."""
    halvings: Depth = 2
    """Halvings of the resolution, to that of the codes."""
    blocks: Depth = 2
    """Residual blocks of the encoder, and of the decoder."""
    block_channels: Width = 32
    """Channels within a residual block."""
    codes: Annotated[int, Limits(2, 2**16)] = 128
    """Vectors of a codebook."""
    latent: Width = 16
    """Numbers of such a vector."""
    depth: Depth = 2
    """Codebooks of --quantizer residual, each for what those before it left over."""
    levels: Counts = (8, 6, 5)
    """Levels of each number of a code of --quantizer fsq, at least 3; there are as many codes as
    their product."""
    commitment: NonNegative = 0.25
    """Weight of the distance of latents to their codes."""
    average: Share = 0.99
    """Decay of the moving averages that the codebook is made of."""
    restart: Share = 0.03
    """Share of even use under which a vector is moved to a latent of the batch; 0: never."""
    data_std: Positive = 0.7
    """Standard deviation of the numbers of images in −1..1, which errors are measured in."""
    learning_rate: Positive = 1e-3

    def check(self, shape, quantizer):
        """Refuses settings that do not fit each other and the images."""
        check_sides(shape, self.halvings, "--autoencoder.halvings")
        mine = {"codes", "latent", "commitment", "average", "restart"}
        mine = {"vq": mine, "residual": {*mine, "depth"}, "fsq": {"levels"}}
        for name in sorted(set().union(*mine.values()) - mine[quantizer]):
            value = getattr(self, name)
            if value != getattr(type(self), name):
                raise ConfigError(
                    f"--autoencoder.{name} {_shown(value)} has no effect with --quantizer "
                    f"{quantizer}"
                )
        if quantizer == "fsq" and (min(self.levels) < 3 or math.prod(self.levels) > 2**16):
            raise ConfigError(
                f"--autoencoder.levels {_shown(self.levels)} must be 3 or more each, and 65,536 "
                "codes at most together"
            )


def _shown(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


class Coded(NamedTuple):
    """Codes like z, their numbers [L, B, h, w], ‖z − codes‖² [B], and what each codebook was
    given."""

    codes: jax.Array
    indices: jax.Array
    commitment: jax.Array
    given: jax.Array | None


class Codec:
    """Images to codes and back, by the parameters and codebooks of a state.

    count: K, codes of a codebook. grid: (h, w, L) of an image.
    """

    def __init__(self, config, shape):
        settings = config.autoencoder
        self.settings, self.shape, self.levels = settings, shape, None
        self.count, self.width, depth = settings.codes, settings.latent, 1
        if config.quantizer == "residual":
            depth = settings.depth
        if config.quantizer == "fsq":
            self.levels, self.width = settings.levels, len(settings.levels)
            self.count = math.prod(self.levels)
        sizes = (settings.channels, settings.halvings, settings.blocks, settings.block_channels)
        how = {"latent": self.width, "dtype": jnp.dtype(config.compute)}
        self.encoder = Encoder(*sizes, **how)
        self.decoder = Decoder(*sizes, **how, out_channels=shape[2])
        self.grid = (*(side >> settings.halvings for side in shape[:2]), depth)

    def init(self, key):
        """Parameters, and variables with the codebooks, if there are any."""
        first, second, third = jax.random.split(key, 3)
        z = jnp.zeros((1, *self.grid[:2], self.width))
        params = {
            "encoder": self.encoder.init(first, jnp.zeros((1, *self.shape))),
            "decoder": self.decoder.init(second, z),
        }
        if self.levels is not None:
            return params, {}
        vectors = jax.random.normal(third, (self.grid[2], self.count, self.width))
        books = jax.vmap(quantized.start_codebook)(vectors)
        return params, {"codebook": books._asdict()}

    def latents(self, params, x):
        """What is quantised of images in −1..1."""
        return self.encoder.apply(params["encoder"], x)

    def image(self, params, codes):
        """Images in −1..1."""
        return self.decoder.apply(params["decoder"], codes)

    def quantize(self, variables, z) -> Coded:
        if self.levels is not None:
            codes = quantized.finite_scalar_quantize(z, self.levels)
            indices = quantized.finite_scalar_indices(codes, self.levels)
            return Coded(codes, indices[None], jnp.zeros(len(z)), None)
        found = quantized.residual_quantize(z, variables["codebook"]["vectors"])
        return Coded(found.codes, found.indices, found.commitment, found.residuals)

    def vectors(self, variables, indices):
        """The codes [B, h, w, D] of numbers [B, h, w, L]."""
        if self.levels is not None:
            return quantized.finite_scalar_codes(indices[..., 0], self.levels)
        books = variables["codebook"]["vectors"]
        return sum(book[indices[..., i]] for i, book in enumerate(books))

    def encode(self, state, x):
        """Numbers [B, h, w, L] of images in −1..1."""
        z = self.latents(state.params[NAME], x)
        return jnp.moveaxis(self.quantize(state.variables.get(NAME), z).indices, 0, -1)

    def decode(self, state, indices):
        """Images in 0..1 of numbers [B, h, w, L]."""
        codes = self.vectors(state.variables.get(NAME), indices)
        return (self.image(state.params[NAME], codes) + 1) / 2

    def reconstruct(self, state, key, image):
        return self.decode(state, self.encode(state, image / 127.5 - 1))

    def psnr(self, state, key, image):
        return psnr(self.reconstruct(state, key, image), image)


class FirstStage:
    """The autoencoder alone, which makes no images: codes drawn at random show none."""

    def __init__(self, config, codec: Codec):
        self.config, self.settings, self.codec = config, config.autoencoder, codec

    def family(self) -> Family:
        config, settings, codec = self.config, self.settings, self.codec
        decay = "steps" if config.decay == "steps" else None
        rate = warm_up_and_fall(settings.learning_rate, config.warm_up, decay, settings.steps)
        game = {NAME: config.optimizer.player(self.loss, rate)}
        how = {"reconstruct": codec.reconstruct, "validate": self.validate}
        return Family(game, self.init, None, name=NAME, steps=settings.steps, **how)

    def init(self, key, before):
        params, variables = self.codec.init(key)
        return {NAME: params}, {NAME: variables} if variables else {}

    def loss(self, params, state, key, batch):
        codec, settings = self.codec, self.settings
        change, lots = keys.split(key, 2)
        x, _ = inputs(self.config, batch, change, None, True)
        z = codec.latents(params[NAME], x)
        variables = state.variables.get(NAME)
        found = codec.quantize(variables, z)
        mse = jnp.square(codec.image(params[NAME], found.codes) - x).mean((1, 2, 3))
        value = mse / settings.data_std**2 + settings.commitment * found.commitment / z[0].size
        metrics = {"mse": mse.mean()}
        for i, indices in enumerate(found.indices):
            name = "perplexity" if len(found.indices) == 1 else f"perplexity_{i + 1}"
            metrics[name] = quantized.perplexity(indices, codec.count)
        if found.given is None:
            return value.mean(), Aux(metrics)
        books, metrics["restarted"] = self.moved(variables["codebook"], found, lots)
        return value.mean(), Aux(metrics, {NAME: {"codebook": books}})

    def moved(self, books, found, lots):
        """The codebooks after a step of their averages, and the vectors that were restarted."""
        books, moved, restarted = quantized.Codebook(**books), [], 0
        for i, (given, indices) in enumerate(zip(found.given, found.indices, strict=True)):
            book = jax.tree.map(lambda a, i=i: a[i], books)
            how = {"decay": self.settings.average}
            book = quantized.update_codebook(book, given, indices, **how)
            key = keys.fold_in(lots, i)
            again = quantized.restart_codes(book, given, key, share=self.settings.restart)
            restarted += (again.counts != book.counts).sum().astype(jnp.float32)
            moved.append(again)
        return jax.tree.map(lambda *a: jnp.stack(a), *moved)._asdict(), restarted

    def validate(self, state, key, batch):
        x = batch["image"] / 127.5 - 1
        again = 2 * self.codec.reconstruct(state, key, batch["image"]) - 1
        return {"mse": jnp.square(again - x).mean((1, 2, 3))}
