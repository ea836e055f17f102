"""How images are drawn, mixed and found by a StyleGAN2: from noise z, or from w, its styles."""

import jax
import jax.numpy as jnp

from experiments.style_training import StyleGame, crossed
from genjax import keys as prng
from genjax.edit.operator import Operator
from genjax.edit.projection import project

SIDE = 8  # sources of styles in a grid, in rows and in columns
AVERAGED = 1000  # noises that the mean w of a class is taken over


class StyleSampler:
    """Images by the moving average of the generator.

    Latents are noise [n, latent]; for style mixing "coarse" and "fine" noise; or offsets of w from
    the mean of their class [n, 1, features], which `invert` finds: so that they are an image of any
    class. Those are drawn without the generator's noise, by themselves alone.
    """

    def __init__(self, game: StyleGame):
        self.game, self.config, self.mapping = game, game.config, game.mapping

    def generate(self, state, keys, z, label):
        """Images in 0..1, their latents drawn towards the mean."""
        own, mean = state.ema["generator"], state.variables["generator"]["w"]
        if isinstance(z, dict):
            coarse, fine = (self.mapping(own, z[name], label) for name in ("coarse", "fine"))
            cut = jnp.full(len(fine), self.config.crossover)
            w = crossed(coarse, self.game.each_layer(fine), cut)
        elif z.ndim == 3:
            w = self.game.each_layer(self.centres(own, len(z), label) + z[:, 0])
            keys = None
        else:
            w = self.game.each_layer(self.mapping(own, z, label))
        w = mean[None, None] + self.config.truncation * (w - mean[None, None])
        return (self.game.draw(own, w, keys) + 1) / 2

    def pairs(self, key, n):
        """Latents of n images in sheets of 8 x 8: coarse styles by the row, fine by the column.

        Rows and columns have the same latents in each sheet, its own eight: the images of the
        diagonal are mixed with themselves.
        """
        sources = (n // SIDE**2 + 1) * SIDE
        z = prng.normal(prng.per_example(key, sources), (sources, self.config.latent))
        sheet, cell = jnp.divmod(jnp.arange(n), SIDE**2)
        row, column = jnp.divmod(cell, SIDE)
        return {"coarse": z[SIDE * sheet + row], "fine": z[SIDE * sheet + column]}

    def centres(self, own, n, label):
        """The mean w of each image's class, or of all without classes: [n, features]."""
        z = jax.random.normal(jax.random.key(0), (AVERAGED, self.config.latent))
        if label is None:
            return jnp.broadcast_to(self.mapping(own, z, None).mean(0), (n, self.config.features))

        def of_class(k):
            return self.mapping(own, z, jnp.full(AVERAGED, k)).mean(0)

        return jax.lax.map(of_class, jnp.arange(self.game.classes))[label]

    def invert(self, state, keys, images, label):
        """Projection of images uint8 [n, H, W, C]: offsets of w [n, 1, features]."""
        own, classes = state.ema["generator"], self.game.classes
        centre = self.centres(own, len(images), label)

        def offsets(z):  # as far from their means as w is of noise, by class in turn
            turns = jnp.arange(len(z)) % classes if classes else None
            w = self.mapping(own, z, turns)
            return (w - self.centres(own, len(z), turns))[:, None]

        def decode(w):
            return self.game.draw(own, self.game.each_layer(centre + w[:, 0]), None)

        same = Operator(lambda x: x, self.game.shape, gram=1.0)
        how = {"latent": (self.config.latent,), "mapping": offsets}
        return project(decode, keys, images / 127.5 - 1, same, **how).z
