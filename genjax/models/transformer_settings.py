"""The settings of a transformer as an experiment's flags, and the sizes of the papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from genjax.errors import ConfigError
from genjax.limits import Count, Depth, Natural, Positive, Share, Width
from genjax.models.transformer import Transformer

# Table 1 of DiT (Peebles & Xie 2022), which SiT and JiT share but for XL: 16 heads of 72.
SMALL = {"width": 384, "depth": 12, "heads": 6}
BASE = {"width": 768, "depth": 12, "heads": 12}
LARGE = {"width": 1024, "depth": 24, "heads": 16}
EXTRA_LARGE = {"width": 1152, "depth": 28, "heads": 16}


@dataclass(frozen=True)
class TransformerSettings:
    """A base class for the settings of an experiment with a transformer."""

    patch: Count = 4
    """Side of a patch in pixels: each patch is a token."""
    width: Width = 128
    """Features of a token."""
    depth: Depth = 6
    """Number of blocks."""
    heads: Count = 4
    """Attention heads per block."""
    block: Literal["dit", "jit"] = "jit"
    """dit: LayerNorm and an MLP with GELU. jit: RMSNorm, SwiGLU, normalised queries and keys, and
    rotary positions as well."""
    positions: Literal["sine", "learned"] = "sine"
    """Positions that are added to the tokens: fixed sines, or parameters."""
    bottleneck: Width | None = None
    """Features between a patch's pixels and its token, fewer than either. None: one linear
    layer."""
    context: Natural = 0
    """Tokens that hold the class beside the patches', with --classes."""
    context_start: Natural = 0
    """The block that these come in before."""
    skips: bool = False
    """Long skips from the first half of the blocks to the second, as in U-ViT."""
    time_scale: Positive = 1.0
    """By which times are multiplied before their sines: 1 in SiT and JiT, 1000 in DiT."""
    dropout: Share = 0.0
    """Probability of dropping an activation."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the network's computation; its parameters are float32 either way."""
    remat: bool = False
    """Recompute activations for the gradient: less memory on a GPU, a third more work."""

    def transformer(self, classes: int | None = None, **more: Any) -> Transformer:
        """The network.

        Args:
          classes: number of classes to condition on, None for none.
          more: further fields of `Transformer`.

        Returns:
          The linen module.
        """
        return Transformer(
            self.patch,
            self.width,
            self.depth,
            self.heads,
            jit=self.block == "jit",
            positions=self.positions,
            bottleneck=self.bottleneck,
            context=self.context,
            context_start=self.context_start,
            skips=self.skips,
            time_scale=self.time_scale,
            dropout=self.dropout,
            classes=classes,
            remat=self.remat,
            dtype=jnp.dtype(self.compute),
            **more,
        )

    def products(self, shape: tuple[int, ...]) -> int:
        """Multiplications of an evaluation, less those of attention's weights and of the ends.

        Args:
          shape: (H, W, C) of an image.

        Returns:
          12 T C² per block of T tokens of C features.
        """
        tokens = shape[0] // self.patch * (shape[1] // self.patch)
        return 12 * tokens * self.width**2 * self.depth

    def check_transformer(self, shape: tuple[int, ...], classes: bool) -> None:
        """Checks the network's settings with each other and with the images.

        Args:
          shape: (H, W, C) of an image.
          classes: whether the network is conditioned on classes.

        Raises:
          ConfigError: where they do not fit; the message names the flags.
        """
        height, width = shape[:2]
        if height % self.patch or width % self.patch:
            near = max(self.patch, min(height, width) // self.patch * self.patch)
            raise ConfigError(
                f"--patch {self.patch} does not divide images of {height}x{width}: give another, "
                f"or --data.size {near}"
            )
        if self.width % self.heads:
            raise ConfigError(f"--heads {self.heads} does not divide --width {self.width}")
        if self.width % 4:
            raise ConfigError(f"--width must be a multiple of 4, not {self.width}")
        if self.block == "jit" and self.width // self.heads % 4:
            raise ConfigError(
                f"--width {self.width} over --heads {self.heads} must be a multiple of 4 with "
                "--block jit, as rotary positions turn pairs of features in two directions"
            )
        pixels = self.patch**2 * shape[2]
        if self.bottleneck is not None and self.bottleneck >= self.width:
            raise ConfigError(
                f"--bottleneck {self.bottleneck} is none: it must be below --width {self.width}"
            )
        if self.bottleneck is not None and self.bottleneck > pixels:
            raise ConfigError(
                f"--bottleneck {self.bottleneck} is none: a patch has {pixels} numbers"
            )
        if self.context and not classes:
            raise ConfigError(f"--context {self.context} has no effect without --classes")
        if self.context_start and not self.context:
            raise ConfigError(
                f"--context-start {self.context_start} has no effect without --context"
            )
        if self.context and self.context_start >= self.depth:
            raise ConfigError(
                f"--context-start {self.context_start} must be below --depth {self.depth}"
            )
        if self.skips and self.context_start:
            raise ConfigError("--context-start must be 0 with --skips")
        if self.skips and self.depth == 1:
            raise ConfigError("--skips needs --depth 2 or more")
