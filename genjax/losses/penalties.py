"""Penalties of an adversarial game: on a critic's slope and consistency, a generator's path.

The networks are pure functions here. A flax.nnx network that updates itself, as BatchNorm's
statistics and dropout's counter do, cannot do so inside a gradient: pass a function that merges a
copy, `lambda x: nnx.merge(graph, state, copy=True)(x)` with `graph, state = nnx.split(critic)`. Its
updates are dropped: take them in the call of the loss itself. A BatchNorm in training mode couples
the examples (see `r1`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics, over_batch

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


def _rows(x: Array) -> Array:
    return numerics.widen(x).reshape(len(x), -1)


def _slopes(discriminate: Critic, x: Array) -> Array:
    """The gradient of critic output i with respect to example i, as [B, D] in float32 at least."""

    numerics.check_floats(x=x)

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
    r"""The squared slope of the critic at real examples.

    The paper's regulariser is γ/2 times this; no factor is applied here. It assumes that critic
    output i depends on example i alone: where examples are coupled (batch statistics), the slope
    is that of the outputs' sum over the batch.

    $$
    \| \nabla_x D(x) \|^2
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      real: [B, ...].

    Returns:
      [B], summed over all elements of an example.

    Raises:
      ValueError: where the examples are integers, or the critic's output is not [B].

    References:
      Mescheder, Geiger & Nowozin, "Which Training Methods for GANs do actually Converge?" (2018),
      arXiv:1801.04406, section 4.1.
    """
    return jnp.square(_slopes(discriminate, real)).sum(-1)


def r2(discriminate: Critic, fake: Array) -> Array:
    r"""The squared slope of the critic at generated examples.

    `r1` at the generator's examples, with the same assumption; γ/2 is the caller's. R3GAN adds
    both to `gan.relativistic_pairing`.

    $$
    \| \nabla D(G(z)) \|^2
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      fake: [B, ...].

    Returns:
      [B], summed over all elements of an example.

    Raises:
      ValueError: where the examples are integers, or the critic's output is not [B].

    References:
      Mescheder, Geiger & Nowozin, "Which Training Methods for GANs do actually Converge?" (2018),
      arXiv:1801.04406, section 4.1.
    """
    return r1(discriminate, fake)


def _between(real: Array, fake: Array, key: Array) -> Array:
    numerics.check_floats(real=real, fake=fake)
    _alike(real, fake)
    share = keys.uniform(key, (len(real),) + (1,) * (real.ndim - 1))
    return (share * real + (1 - share) * fake).astype(real.dtype)


def wgan_gp(discriminate: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""The two-sided gradient penalty of WGAN-GP, between real and generated examples.

    The paper's weight is λ = 10; no factor is applied here. It assumes that critic output i depends
    on example i alone (so no BatchNorm in the critic, as the paper asks); otherwise the slope is
    that of the outputs' sum over the batch. Where the slope is zero the penalty is 1 and its
    gradient zero, not NaN.

    $$
    (\| \nabla D(\hat x) \|_2 - 1)^2, \qquad \hat x = \epsilon \, \mathrm{real}
      + (1 - \epsilon) \, \mathrm{fake}, \qquad \epsilon \sim U[0, 1]
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      real: [B, ...].
      fake: like `real`.
      key: one key, or one per example [B].

    Returns:
      [B].

    Raises:
      ValueError: where the examples are integers, `real` and `fake` differ in shape, the critic's
        output is not [B], or there is another number of keys.

    References:
      Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), arXiv:1704.00028, eq. 3.
    """
    return jnp.square(_norms(_slopes(discriminate, _between(real, fake, key))) - 1)


def wgan_lp(discriminate: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""The one-sided gradient penalty, which leaves slopes below 1 free.

    x̂, assumption and weight as for `wgan_gp`.

    $$
    \max(0, \| \nabla D(\hat x) \|_2 - 1)^2
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      real: [B, ...].
      fake: like `real`.
      key: one key, or one per example [B].

    Returns:
      [B].

    Raises:
      ValueError: where the examples are integers, `real` and `fake` differ in shape, the critic's
        output is not [B], or there is another number of keys.

    References:
      Petzka, Fischer & Lukovnikov, "On the regularization of Wasserstein GANs" (2018),
      arXiv:1709.08894.
      Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), arXiv:1704.00028,
      section 4, "two-sided penalty".
    """
    excess = _norms(_slopes(discriminate, _between(real, fake, key))) - 1
    return jnp.square(jax.nn.relu(excess))


def dragan(discriminate: Critic, real: Array, key: Array, *, scale: float) -> Array:
    r"""The gradient penalty around real examples.

    The paper's weight is λ = 10; no factor is applied here. It assumes that critic output i depends
    on example i alone, as `wgan_gp` does. Where the slope is zero the penalty is 1 and its gradient
    zero, not NaN.

    $$
    (\| \nabla D(x + \delta) \|_2 - 1)^2, \qquad \delta \sim \mathcal{N}(0, \mathrm{scale}^2 I)
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      real: x, [B, ...].
      key: one key, or one per example [B].
      scale: standard deviation of δ in the unit of x; half that of the data is customary.

    Returns:
      [B].

    Raises:
      ValueError: where the examples are integers, the critic's output is not [B], or there is
        another number of keys.

    References:
      Kodali et al., "On Convergence and Stability of GANs" (2017), arXiv:1705.07215.
    """
    numerics.check_floats(real=real)
    noise = scale * keys.normal(key, real.shape)
    return jnp.square(_norms(_slopes(discriminate, (real + noise).astype(real.dtype))) - 1)


def consistency_regularization(
    discriminate: Critic, x: Array, augment: Augment, key: Array
) -> Array:
    r"""How far the critic's output moves where its input is augmented.

    CR-GAN's critic adds λ times this at real examples (λ = 10 in the paper). Gradients flow through
    both outputs. It assumes nothing about the critic; one with batch statistics sees x and T(x) as
    two batches.

    $$
    (D(x) - D(T(x)))^2
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      x: [B, ...].
      augment: T, (x, key) -> like x.
      key: one key, or one per example [B], handed to `augment`.

    Returns:
      [B].

    Raises:
      ValueError: where x is of integers, T(x) has another shape than x, or the critic's output is
        not [B].

    References:
      Zhang et al., "Consistency Regularization for Generative Adversarial Networks" (2020),
      arXiv:1910.12027.
    """
    numerics.check_floats(x=x)
    augmented = augment(x, key)
    if augmented.shape != x.shape:
        raise ValueError(
            f"augment must keep the shape, got {augmented.shape} for x {x.shape}: "
            "crop or pad its output back"
        )
    before, after = discriminate(x), discriminate(augmented)
    _one_per_example(before, x)
    return jnp.square(numerics.widen(before) - numerics.widen(after))


class BalancedConsistency(NamedTuple):
    """The two halves of bCR, to be weighed by λ_real and λ_fake and added.

    Attributes:
      real: at real examples, [B].
      fake: at generated examples, [B].
    """

    real: Array
    fake: Array


def balanced_consistency(
    discriminate: Critic, real: Array, fake: Array, augment: Augment, key: Array
) -> BalancedConsistency:
    r"""`consistency_regularization` at real and at generated examples (bCR).

    The augmentations of the two are independent.

    $$
    \lambda_{\mathrm{real}} \, (D(x) - D(T(x)))^2
      + \lambda_{\mathrm{fake}} \, (D(G(z)) - D(T(G(z))))^2
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      real: [B, ...].
      fake: like `real`.
      augment: T, (x, key) -> like x.
      key: one key, or one per example [B].

    Returns:
      The two halves, each [B], without λ (both 10 in the paper's CIFAR-10 runs).

    Raises:
      ValueError: where the examples are integers, `real` and `fake` differ in shape, T(x) has
        another shape than x, or the critic's output is not [B].

    References:
      Zhao et al., "Improved Consistency Regularization for GANs" (2021), arXiv:2002.04724.
    """
    _alike(real, fake)
    for_real, for_fake = keys.split(key, 2)
    return BalancedConsistency(
        real=consistency_regularization(discriminate, real, augment, for_real),
        fake=consistency_regularization(discriminate, fake, augment, for_fake),
    )


class LatentConsistency(NamedTuple):
    """The two parts of zCR, [B] each, to be weighed and added.

    Attributes:
      critic: what the critic adds, (D(G(z)) − D(G(z + δ)))².
      generator: what the generator adds, −‖G(z) − G(z + δ)‖², so that its images stay apart.
    """

    critic: Array
    generator: Array


def latent_consistency(
    discriminate: Critic,
    generate: Callable[[Array], Array],
    z: Array,
    key: Array,
    *,
    scale: float,
) -> LatentConsistency:
    r"""How far images and the critic's outputs move with a small step of the latent (zCR).

    Together with `balanced_consistency` it is ICR-GAN. Each player takes its own part, with its own
    weight: in the critic's loss let `generate` hold the generator's parameters as constants.

    $$
    \left( D(G(z)) - D(G(z + \delta)) \right)^2, \qquad
    -\left\| G(z) - G(z + \delta) \right\|^2, \qquad
    \delta \sim \mathcal{N}(0, \mathrm{scale}^2 I)
    $$

    Args:
      discriminate: the critic, [B, ...] -> [B], raw outputs.
      generate: G, z -> images [B, ...].
      z: latents, [B, ...].
      key: one key, or one per example [B].
      scale: standard deviation of δ in the unit of z, where a latent has 1; well below that.

    Returns:
      The two parts, the generator's summed over an image's elements.

    Raises:
      ValueError: where z is of integers, the critic's output is not [B], or there is another number
        of keys.

    References:
      Zhao et al., "Improved Consistency Regularization for GANs" (2021), arXiv:2002.04724,
      section 3.2.
    """
    numerics.check_floats(z=z)
    here, there = generate(z), generate((z + scale * keys.normal(key, z.shape)).astype(z.dtype))
    before, after = discriminate(here), discriminate(there)
    _one_per_example(before, z)
    moved = numerics.sum_per_example(jnp.square(numerics.widen(here) - numerics.widen(there)))
    return LatentConsistency(jnp.square(numerics.widen(before) - numerics.widen(after)), -moved)


class Anchors(NamedTuple):
    """Moving averages of a critic's outputs, for `lecam`.

    Attributes:
      real: of real examples, a scalar.
      fake: of generated examples, a scalar.
    """

    real: Array
    fake: Array


class LeCam(NamedTuple):
    """The result of `lecam`.

    Attributes:
      penalty: [B].
      anchors: after the step.
    """

    penalty: Array
    anchors: Anchors


def lecam(
    real: Array,
    fake: Array,
    anchors: Anchors,
    *,
    decay: float = 0.99,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> LeCam:
    r"""Holds the critic's outputs near the moving average of those of the other kind.

    For training on few images, where a critic that has memorised them moves the two apart. The
    averages are used after this step's outputs have entered, without gradient: keep them in the
    training state, starting from zeros, and add the penalty once they mean something. With the
    Wasserstein game it bounds a LeCam divergence. The paper weighs it by 0.3 down to 0.01.

    $$
    (D(x) - \alpha_F)^2 + (D(G(z)) - \alpha_R)^2, \qquad
    \alpha \leftarrow \mathrm{decay} \cdot \alpha + (1 - \mathrm{decay}) \, \mathrm{mean}\, D
    $$

    Args:
      real: the critic's outputs at real examples, [B].
      fake: those at generated examples, [B].
      anchors: α_R and α_F before the step.
      decay: of the averages.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The penalty, [B], and the averages after the step, the global batch's.

    Raises:
      ValueError: where the outputs are not both [B].

    References:
      Tseng et al., "Regularizing Generative Adversarial Networks under Limited Data" (2021),
      arXiv:2104.03310, section 3.
    """
    _alike(real, fake)
    if real.ndim != 1:
        raise ValueError(f"critic outputs must be [B], got {real.shape}: squeeze them")
    real, fake = numerics.widen(real), numerics.widen(fake)
    means = jax.lax.stop_gradient(over_batch.mean((real.mean(), fake.mean()), axis_name))
    moved = (decay * old + (1 - decay) * mean for old, mean in zip(anchors, means, strict=True))
    after = Anchors(*moved)
    return LeCam(jnp.square(real - after.fake) + jnp.square(fake - after.real), after)


def orthogonality(params: Any) -> Array:
    r"""How far the columns of a network's kernels are from being orthogonal to each other.

    BigGAN's form, which leaves their lengths free and so does not bind the network's scale. The
    paper's weight is 1e-4; no factor is applied here.

    $$
    \sum_W \left\| W^\top W \odot (1 - I) \right\|_F^2
    $$

    Args:
      params: kernels, any tree of arrays whose last axis is the output; those of fewer than two
        axes (biases, scales) are skipped. Leave out embeddings.

    Returns:
      A scalar, summed over the kernels.

    Raises:
      ValueError: where there is no kernel.

    References:
      Brock, Donahue & Simonyan, "Large Scale GAN Training for High Fidelity Natural Image
      Synthesis" (2019), arXiv:1809.11096, eq. 3.
    """
    kernels = [leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) >= 2]
    if not kernels:
        raise ValueError("params hold no kernel, an array of two axes or more")
    total = jnp.zeros(())
    for kernel in kernels:
        columns = numerics.widen(kernel).reshape(-1, kernel.shape[-1])
        products = jnp.matmul(columns.T, columns, precision=jax.lax.Precision.HIGHEST)
        total += jnp.square(products * (1 - jnp.eye(len(products)))).sum()
    return total


class PathLength(NamedTuple):
    """The result of `path_length`.

    Attributes:
      penalty: (‖Jᵀy‖₂ − a)², [B].
      length: ‖Jᵀy‖₂, [B].
      mean: a after the step, a scalar.
    """

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
    axis_name: str | None = over_batch.DATA_AXIS,
) -> PathLength:
    r"""The path-length penalty of a generator.

    J = ∂G/∂w at w, y is an image of N(0, 1) noise divided by √(H·W), and a the running mean, whose
    new value is both used and returned: keep it in the training state, starting from 0. No
    gradient flows through a: in the code of StyleGAN2 and StyleGAN2-ADA the gradient also flows
    through the (1 − decay) share of this batch's mean in a, which changes it by a hundredth. It
    assumes that image i depends on w i alone; otherwise J is that of all images together.
    StyleGAN2 weighs the penalty by 2.

    $$
    (\| J^\top y \|_2 - a)^2, \qquad
    a \leftarrow \mathrm{decay} \cdot a + (1 - \mathrm{decay}) \, \mathrm{mean} \, \| J^\top y \|_2
    $$

    Args:
      generate: G, w -> images [B, H, W, C].
      w: [B, ...]; the norm runs over all elements of an example (a code copied to L layers counts
        L times: differentiate before the copy).
      key: one key, or one per example [B].
      mean: a before the step, a scalar.
      decay: of the running mean; 0.99 in the paper's code.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The penalty, the lengths, and a after the step, the global batch's.

    Raises:
      ValueError: where w is of integers, `generate` does not return [B, H, W, C], or there is
        another number of keys.

    References:
      Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020),
      arXiv:1912.04958, eq. 4.
    """

    numerics.check_floats(w=w)

    def projection(w: Array) -> Array:
        images = generate(w)
        if images.ndim != 4 or len(images) != len(w):
            raise ValueError(
                f"generate must give images [B, H, W, C], got {images.shape} for w {w.shape}"
            )
        noise = keys.normal(key, images.shape)
        _, height, width, _ = images.shape
        return (images * noise).sum() / (height * width) ** 0.5

    length = _norms(_rows(jax.grad(projection)(w)))
    average = over_batch.mean(length.mean(), axis_name)
    mean = jax.lax.stop_gradient(decay * mean + (1 - decay) * average)
    return PathLength(penalty=jnp.square(length - mean), length=length, mean=mean)
