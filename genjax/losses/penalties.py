"""Penalties of an adversarial game: on a critic's slope and consistency, on a generator's path."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Critic = Callable[[Array], Array]  # [B, ...] -> [B], raw outputs
Augment = Callable[[Array, Array], Array]  # (x [B, ...], key) -> like x


def _one_per_example(outputs: Array, x: Array) -> None:
    if outputs.shape != x.shape[:1]:
        raise ValueError(
            f"the critic must give one number per example, got {outputs.shape} for x {x.shape}: "
            "squeeze its output to [B]"
        )


def _alike(real: Array, fake: Array) -> None:
    if real.shape != fake.shape:
        raise ValueError(
            f"examples must have one shape, got real {real.shape} and fake {fake.shape}: "
            "give as many fake as real ones, of the same size"
        )


def _is_one(key: Array) -> bool:
    return key.ndim == (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)


def _draw(sample: Callable[..., Array], key: Array, shape: tuple[int, ...]) -> Array:
    """sample(key, shape), or row i from key i alone where there is one key per example."""
    if _is_one(key):
        return sample(key, shape)
    if len(key) != shape[0]:
        raise ValueError(
            f"got keys {key.shape} for a batch of {shape}: give one key, or one per example"
        )
    return jax.vmap(lambda one: sample(one, shape[1:]))(key)


def _rows(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(len(x), -1)


def _slopes(discriminate: Critic, x: Array) -> Array:
    """The gradient of critic output i with respect to example i, as [B, D] in float32 at least."""

    def total(x: Array) -> Array:
        outputs = discriminate(x)
        _one_per_example(outputs, x)
        return outputs.sum()

    return _rows(jax.grad(total)(x))


def _norms(rows: Array) -> Array:
    """‖row‖₂, [B, D] -> [B]; its gradient at a zero row is zero."""
    # Relative to the largest element, so that squares neither overflow nor vanish.
    largest = jax.lax.stop_gradient(jnp.abs(rows).max(-1, keepdims=True))  # [B, 1]
    scale = jnp.where(largest == 0, 1, largest)
    squares = jnp.square(rows / scale).sum(-1)  # [B]
    # The inner where keeps sqrt's infinite slope out of the gradient; a NaN passes through.
    zero = squares == 0
    return scale[:, 0] * jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def r1(discriminate: Critic, real: Array) -> Array:
    """The squared slope of the critic at real examples, ‖∇D(x)‖², per example.

    The paper's regulariser is γ/2 times this; no factor is applied here.

    Args: `discriminate`, [B, ...] -> [B], raw outputs; `real` [B, ...].
    Returns: [B], summed over all elements of an example.
    Assumes that critic output i depends on example i alone. Where examples are coupled (batch
    statistics), the slope is that of the outputs' sum over the batch.
    Raises ValueError if the critic's output is not [B].
    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), section 4.1.
    """
    return jnp.square(_slopes(discriminate, real)).sum(-1)


def r2(discriminate: Critic, fake: Array) -> Array:
    """The squared slope of the critic at generated examples, ‖∇D(G(z))‖², per example.

    R1 at the generator's examples: the same arguments, assumption, errors and paper; γ/2 is the
    caller's. R3GAN adds both to `gan.relativistic_pairing`.
    """
    return r1(discriminate, fake)


def _between(real: Array, fake: Array, key: Array) -> Array:
    _alike(real, fake)
    share = _draw(jax.random.uniform, key, (len(real),) + (1,) * (real.ndim - 1))
    return (share * real + (1 - share) * fake).astype(real.dtype)


def wgan_gp(discriminate: Critic, real: Array, fake: Array, key: Array) -> Array:
    """The gradient penalty of WGAN-GP, (‖∇D(x̂)‖₂ − 1)², per example.

    x̂ = ε·real + (1 − ε)·fake with one ε ~ U[0, 1] per example. The paper's weight is λ = 10; no
    factor is applied here.

    Args: `discriminate`, [B, ...] -> [B], raw outputs; `real`, `fake` [B, ...]; `key`, one or [B].
    Returns: [B]. Where the slope is zero the penalty is 1 and its gradient zero, not NaN.
    Assumes that critic output i depends on example i alone (so no BatchNorm in the critic, as the
    paper asks); otherwise the slope is that of the outputs' sum over the batch.
    Raises ValueError if real and fake differ in shape or the critic's output is not [B].
    Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), eq. 3.
    """
    return jnp.square(_norms(_slopes(discriminate, _between(real, fake, key))) - 1)


def wgan_lp(discriminate: Critic, real: Array, fake: Array, key: Array) -> Array:
    """The one-sided gradient penalty, max(0, ‖∇D(x̂)‖₂ − 1)², per example.

    It leaves slopes below 1 free. Arguments, x̂, assumption and errors as for `wgan_gp`.
    Gulrajani et al. (2017), section 4, "two-sided penalty", names it; Petzka et al., "On the
    regularization of Wasserstein GANs" (2018), argues for it.
    """
    excess = _norms(_slopes(discriminate, _between(real, fake, key))) - 1
    return jnp.square(jax.nn.relu(excess))


def dragan(discriminate: Critic, real: Array, key: Array, *, scale: float) -> Array:
    """The gradient penalty around real examples, (‖∇D(x + δ)‖₂ − 1)², per example.

    δ ~ N(0, scale²·I) in the units of x; half the data's standard deviation is customary. The
    paper's weight is λ = 10; no factor is applied here.

    Args: `discriminate`, [B, ...] -> [B], raw outputs; `real` [B, ...]; `key`, one or [B].
    Returns: [B]. Where the slope is zero the penalty is 1 and its gradient zero, not NaN.
    Assumes that critic output i depends on example i alone, as `wgan_gp` does.
    Raises ValueError if the critic's output is not [B].
    Kodali et al., "On Convergence and Stability of GANs" (2017).
    """
    noise = scale * _draw(jax.random.normal, key, real.shape)
    return jnp.square(_norms(_slopes(discriminate, (real + noise).astype(real.dtype))) - 1)


def consistency(discriminate: Critic, x: Array, augment: Augment, key: Array) -> Array:
    """How far the critic's output moves with its input augmented, (D(x) − D(T(x)))², per example.

    CR-GAN's critic adds λ times this at real examples (λ = 10 in the paper).

    Args: `discriminate`, [B, ...] -> [B], raw outputs; `x` [B, ...]; `augment(x, key)` gives T(x)
    in the shape of x; `key`, one or [B], is handed to it.
    Returns: [B]; gradients flow through both outputs.
    Assumes nothing about the critic; one with batch statistics sees x and T(x) as two batches.
    Raises ValueError if T(x) has another shape than x or the critic's output is not [B].
    Zhang et al., "Consistency Regularization for Generative Adversarial Networks" (2020).
    """
    augmented = augment(x, key)
    if augmented.shape != x.shape:
        raise ValueError(
            f"augment must keep the shape, got {augmented.shape} for x {x.shape}: "
            "crop or pad its output back"
        )
    before, after = discriminate(x), discriminate(augmented)
    _one_per_example(before, x)
    dtype = jnp.promote_types(before.dtype, jnp.float32)
    return jnp.square(before.astype(dtype) - after.astype(dtype))


class BalancedConsistency(NamedTuple):
    """The two halves of bCR, each [B]: weigh by λ_real and λ_fake and add. Zhao et al. (2021)."""

    real: Array
    fake: Array


def balanced_consistency(
    discriminate: Critic, real: Array, fake: Array, augment: Augment, key: Array
) -> BalancedConsistency:
    """`consistency` at real and at generated examples, with independent augmentations (bCR).

    The critic adds λ_real·real + λ_fake·fake (both 10 in the paper's CIFAR-10 runs). Arguments
    and errors as for `consistency`, and ValueError if real and fake differ in shape.
    Zhao et al., "Improved Consistency Regularization for GANs" (2021).
    """
    _alike(real, fake)
    split = jax.random.split if _is_one(key) else jax.vmap(jax.random.split, out_axes=1)
    for_real, for_fake = split(key)
    return BalancedConsistency(
        real=consistency(discriminate, real, augment, for_real),
        fake=consistency(discriminate, fake, augment, for_fake),
    )


class PathLength(NamedTuple):
    """What `path_length` returns: the penalty [B], the lengths [B], and the new running mean []."""

    penalty: Array
    length: Array
    mean: Array


def path_length(
    generate: Callable[[Array], Array],
    w: Array,
    key: Array,
    mean: Array,
    *,
    decay: float = 0.99,
    axis_name: str | None = None,
) -> PathLength:
    """The path-length penalty of a generator, (‖Jᵀy‖₂ − a)², per example.

    J = ∂G/∂w at w, y an image of N(0, 1) noise divided by √(H·W), and a the running mean
    a ← decay·a + (1 − decay)·mean‖Jᵀy‖₂, whose new value is both used and returned: keep it in
    the training state, starting from 0. No gradient flows through a. StyleGAN2 weighs it by 2.

    Args: `generate`, [B, ...] -> images [B, H, W, C]; `w` [B, ...], over all of whose elements
    the norm runs (a code copied to L layers counts L times: differentiate before the copy);
    `key`, one or [B]; `mean` [], the running mean so far.
    Returns: `PathLength`. Under pmap or shard_map give the mapped `axis_name`, so that the mean
    runs over all devices.
    Assumes that image i depends on w i alone; otherwise J is that of all images together.
    Raises ValueError if generate does not give [B, H, W, C].
    Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), eq. 4.
    """

    def projection(w: Array) -> Array:
        images = generate(w)
        if images.ndim != 4 or len(images) != len(w):
            raise ValueError(
                f"generate must give images [B, H, W, C], got {images.shape} for w {w.shape}"
            )
        noise = _draw(jax.random.normal, key, images.shape)
        _, height, width, _ = images.shape
        return (images * noise).sum() / (height * width) ** 0.5

    length = _norms(_rows(jax.grad(projection)(w)))
    average = length.mean()
    if axis_name is not None:
        average = jax.lax.pmean(average, axis_name)
    mean = jax.lax.stop_gradient(decay * mean + (1 - decay) * average)
    return PathLength(penalty=jnp.square(length - mean), length=length, mean=mean)
