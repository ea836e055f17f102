"""Directions in latents along which an attribute changes, from labelled examples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.numerics import check_floats, check_static, is_traced, widen


class Probe(NamedTuple):
    """A linear classifier of latents, and the direction that it looks along.

    Attributes:
      direction: [*latent], towards label 1; its length is the standard deviation of the latents
        along it.
      accuracy: of held-out latents, over the folds; a scalar.
      chance: the accuracy of always saying the more frequent label; a scalar. A probe that is no
        better has found no direction.
    """

    direction: Array
    accuracy: Array
    chance: Array


def difference_of_means(z: Array, labels: Array) -> Array:
    r"""From the mean latent without an attribute to the mean with it.

    $$
    d \propto \bar z_{1} - \bar z_{0}
    $$

    It carries along whatever else differs between the two groups: if most people with hats have
    beards, the direction of hats grows beards. `linear_probe` mostly does not, as it accounts for
    the covariance.

    Args:
      z: latents [N, *latent], of an encoder, or those that labelled samples were made from.
      labels: [N], 0 or 1, or booleans.

    Returns:
      [*latent], towards label 1; its length is the standard deviation of the latents along it.

    Raises:
      ValueError: where labels are not one per latent, or not of two kinds.

    References:
      Larsen et al., "Autoencoding beyond Pixels Using a Learned Similarity Metric" (2016),
      arXiv:1512.09300.
    """
    rows, ones = _checked(z, labels)
    with_it = ones @ rows / ones.sum()
    without = (1 - ones) @ rows / (1 - ones).sum()
    return _scaled(with_it - without, rows).reshape(z.shape[1:])


def linear_probe(z: Array, labels: Array, *, penalty: float = 1.0, folds: int = 5) -> Probe:
    r"""The normal of the hyperplane that separates two labels: logistic regression on latents.

    $$
    \min_{v, b}\; \sum_i \ln\left(1 + e^{-s_i (v^\top \tilde z_i + b)}\right)
      + \tfrac{c}{2} \lVert v \rVert^2, \qquad s_i = \pm 1
    $$

    on latents z̃ that are standardized number by number, by Newton's method. The accuracy is that of
    further fits, each without the fold that it is tested on: every folds-th latent.

    Args:
      z: latents [N, *latent], of an encoder, or those that labelled samples were made from.
      labels: [N], 0 or 1, or booleans.
      penalty: c.
      folds: parts for the held-out accuracy.

    Returns:
      The direction, and whether labels can be read off latents at all.

    Raises:
      TypeError: where the folds are traced.
      ValueError: where labels are not one per latent or not of two kinds, the penalty is not
        positive, or there are fewer latents than folds or fewer than 2 folds.

    References:
      Shen et al., "InterFaceGAN: Interpreting the Disentangled Face Representation Learned by GANs"
      (2020), arXiv:1907.10786; there the classifier is a support vector machine.
    """
    check_static(folds=folds)
    rows, ones = _checked(z, labels)
    if not 2 <= folds <= len(rows):
        raise ValueError(f"give 2 to {len(rows)} folds, not {folds}")
    if not is_traced(penalty) and penalty <= 0:
        raise ValueError(f"the penalty must be positive, not {penalty}")
    std = jnp.maximum(rows.std(0), 1e-6 * jnp.maximum(rows.std(), 1e-30))
    standard = (rows - rows.mean(0, keepdims=True)) / std[None]
    standard = jnp.concatenate([standard, jnp.ones((len(rows), 1))], 1)
    fold = jnp.arange(len(rows)) % folds
    used = jnp.concatenate([jnp.ones((1, len(rows))), fold[None] != jnp.arange(folds)[:, None]])
    fits = jax.vmap(lambda used: _logistic(standard, ones, used, penalty))(used)
    held_out = jnp.sum(standard * fits[1:][fold], 1) > 0
    accuracy = jnp.mean(held_out == (ones > 0))
    share = ones.mean()
    direction = _scaled(fits[0, :-1] / std, rows).reshape(z.shape[1:])
    return Probe(direction, accuracy, jnp.maximum(share, 1 - share))


def orthogonalized(direction: Array, others: Array) -> Array:
    r"""A direction without what it shares with others: it changes its attribute and not theirs.

    $$
    d - P d
    $$

    with P the projection onto the span of the others: for one other of unit length, d − (dᵀn) n.
    Others that are hyperplanes' normals, from `linear_probe`, keep what their classifiers say.

    Args:
      direction: d, [*latent].
      others: [k, *latent].

    Returns:
      [*latent], shorter than d by what was shared.

    Raises:
      ValueError: where the shapes differ, or nothing is left.

    References:
      Shen et al., "InterFaceGAN: Interpreting the Disentangled Face Representation Learned by GANs"
      (2020), arXiv:1907.10786, section 2.2, conditional manipulation.
    """
    check_floats(others=others)
    if others.shape[1:] != direction.shape:
        raise ValueError(f"give others as [k, {direction.shape}], not {others.shape}")
    d, rows = widen(direction).ravel(), widen(others).reshape(len(others), -1)
    lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / jnp.where(lengths > 0, lengths, 1)
    left = d - rows.T @ jnp.linalg.lstsq(rows.T, d)[0]
    if not is_traced(direction, others) and jnp.linalg.norm(left) < 1e-4 * jnp.linalg.norm(d):
        raise ValueError("the direction lies in the span of the others: nothing of it is left")
    return left.reshape(direction.shape)


def _checked(z: Array, labels: Array) -> tuple[Array, Array]:
    check_floats(z=z)
    labels = jnp.asarray(labels)
    if labels.shape != z.shape[:1]:
        raise ValueError(f"give one label per latent, [{len(z)}], not {labels.shape}")
    if not is_traced(labels):
        kinds = jnp.unique(labels).astype(int).tolist()
        if kinds != [0, 1]:
            raise ValueError(f"labels must be 0 and 1, and both must occur, not {kinds}")
    return widen(z).reshape(len(z), -1), labels.astype(jnp.float32)


def _scaled(direction: Array, rows: Array) -> Array:
    unit = direction / jnp.linalg.norm(direction)
    return unit * (rows @ unit).std()


def _logistic(rows: Array, ones: Array, used: Array, penalty: float) -> Array:
    """The weights of a logistic regression, the last of them, the bias, without a penalty."""
    signs = 2 * ones - 1
    ridge = jnp.append(jnp.full(rows.shape[1] - 1, penalty, rows.dtype), 1e-4)

    def loss(v: Array) -> Array:
        return used @ jax.nn.softplus(-signs * (rows @ v)) + 0.5 * jnp.sum(ridge * v**2)

    def newton(v: Array, _: None) -> tuple[Array, None]:
        p = jax.nn.sigmoid(rows @ v)
        gradient = rows.T @ (used * (p - ones)) + ridge * v
        hessian = rows.T @ (rows * (used * p * (1 - p))[:, None]) + jnp.diag(ridge)
        step = jnp.linalg.solve(hessian, gradient)
        # Far from the minimum a complete step may lead uphill: then a part of it is taken.
        tried = v[None] - step[None] * 0.5 ** jnp.arange(8.0)[:, None]
        return tried[jnp.argmin(jax.vmap(loss)(tried))], None

    return jax.lax.scan(newton, jnp.zeros(rows.shape[1], rows.dtype), length=20)[0]
