"""How a class label becomes an input of a network: one way per kind of network.

A network that knows the time adds `ClassEmbedding` to its embedding of it, one that takes a vector
takes the label `beside` it, and a critic adds a `ClassProjection` to its logit. Labels are numbers
in 0..K − 1; K, and None for labels, mean "no class".
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def check(label: jax.Array | None, classes: int | None) -> None:
    """Refuses labels for an unconditional network, which would ignore them.

    Args:
      label: [B], or None.
      classes: number of classes K that the network is conditioned on; None for none.

    Raises:
      ValueError: for labels where `classes` is None.
    """
    if label is not None and classes is None:
        raise ValueError("a label needs a network with `classes`")


class ClassEmbedding(nn.Module):
    """An embedding of class labels, with one more label for "no class".

    Args:
      classes: number of classes K.
      features: of the embedding.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From labels [B] in 0..K, where K means "no class", or None for K throughout, and the batch
      size B: [B, features].
    """

    classes: int
    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, label: jax.Array | None, batch: int) -> jax.Array:
        if label is None:
            label = jnp.full((batch,), self.classes)
        return nn.Embed(
            self.classes + 1, self.features, dtype=self.dtype, param_dtype=self.param_dtype
        )(label)


class ClassProjection(nn.Module):
    r"""What a class adds to a critic's logit: the features' inner product with its embedding.

    $$
    \mathrm{logit}(x, y) = \psi(\phi(x)) + \langle v_y, \phi(x) \rangle
    $$

    of which this is the second term. The critic then asks whether an image is real, and whether it
    is one of its class, which a label that is merely concatenated to the image need not lead to.

    Args:
      classes: number of classes K.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From features φ [B, n] and labels [B] in 0..K, or None for K throughout: [B].

    References:
      Miyato & Koyama, "cGANs with Projection Discriminator" (2018), arXiv:1802.05637, eq. 3.
    """

    classes: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, label: jax.Array | None) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        rows = ClassEmbedding(self.classes, features.shape[-1], **kinds)(label, len(features))
        return (rows * features).sum(-1)


def beside(z: jax.Array, label: jax.Array | None, classes: int | None) -> jax.Array:
    r"""A vector with its class beside it, as a conditional generator or decoder takes it.

    $$
    \bigl[z,\; \sqrt{K}\, e_y\bigr]
    $$

    with the unit vector e of the class: like the entries of a standard normal z, those of the label
    then have a mean square of 1, for classes of equal frequency. "No class" is zero throughout.

    Args:
      z: [B, n].
      label: [B] in 0..K, or None for K throughout.
      classes: K; None for an unconditional network, where the result is z itself.

    Returns:
      [B, n + K], of z's dtype.

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Mirza & Osindero, "Conditional Generative Adversarial Nets" (2014), arXiv:1411.1784.
      Sohn, Yan & Lee, "Learning Structured Output Representation using Deep Conditional Generative
      Models" (NeurIPS 2015).
    """
    check(label, classes)
    if classes is None:
        return z
    if label is None:
        label = jnp.full(len(z), classes)
    one_hot = jax.nn.one_hot(label, classes, dtype=z.dtype)
    return jnp.concatenate([z, classes**0.5 * one_hot], axis=-1)
