"""Adversarial losses: what a critic and a generator each minimise, from the critic's outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax import over_batch
from genjax.numerics import check_has, is_traced, widen


@dataclass(frozen=True)
class Adversarial:
    """The two losses of one adversarial game, each with one value per example.

    Both take the critic's raw outputs (logits, before any sigmoid), real = D(x) and fake = D(G(z)),
    both [B]; any other shapes raise ValueError. Units: nats for the logistic losses. Element i of
    the discriminator's loss is the term of real i plus the term of fake i, so that its mean over
    the batch estimates the paper's sum of two expectations. Outputs are float32 at least, also for
    bfloat16 inputs.

    Attributes:
      discriminator: (real, fake) -> [B], what the critic minimises.
      generator: (real, fake) -> [B], what the generator minimises; real may be None where the loss
        does not look at the real examples.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array | None, Array], Array]


def _outputs(real: Array | None, fake: Array) -> tuple[Array, Array]:
    if real is None:
        raise ValueError(
            f"this loss compares fake {jnp.shape(fake)} with real examples, got None: "
            "give the critic's outputs on real examples too"
        )
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    if real.ndim != 1 or real.shape != fake.shape:
        raise ValueError(
            f"critic outputs must both be [B], got real {real.shape} and fake {fake.shape}: "
            "squeeze the critic's output and give as many real as fake examples"
        )
    dtype = jnp.promote_types(jnp.promote_types(real.dtype, fake.dtype), jnp.float32)
    return real.astype(dtype), fake.astype(dtype)


def _separable(
    on_real: Callable[[Array], Array],
    on_fake: Callable[[Array], Array],
    on_generated: Callable[[Array], Array],
) -> Adversarial:
    def discriminator(real: Array, fake: Array) -> Array:
        real, fake = _outputs(real, fake)
        return on_real(real) + on_fake(fake)

    def generator(real: Array | None, fake: Array) -> Array:
        _, fake = _outputs(fake if real is None else real, fake)
        return on_generated(fake)

    return Adversarial(discriminator, generator)


minimax = _separable(
    on_real=lambda real: jax.nn.softplus(-real),
    on_fake=jax.nn.softplus,
    on_generated=lambda fake: -jax.nn.softplus(fake),
)
r"""The saturating game, on logits; σ is the sigmoid.

At the best critic, minus the critic's mean loss is 2·JSD(p_data, p_G) − log 4.

$$
L_D = -\log \sigma(\mathrm{real}) - \log(1 - \sigma(\mathrm{fake})), \qquad
L_G = \log(1 - \sigma(\mathrm{fake}))
$$

References:
  Goodfellow et al., "Generative Adversarial Nets" (2014), arXiv:1406.2661, eq. 1.
"""

non_saturating = _separable(
    on_real=lambda real: jax.nn.softplus(-real),
    on_fake=jax.nn.softplus,
    on_generated=lambda fake: jax.nn.softplus(-fake),
)
r"""The minimax critic with a generator's loss that does not vanish when the critic wins.

$$
L_D = -\log \sigma(\mathrm{real}) - \log(1 - \sigma(\mathrm{fake})), \qquad
L_G = -\log \sigma(\mathrm{fake})
$$

References:
  Goodfellow et al., "Generative Adversarial Nets" (2014), arXiv:1406.2661, section 3.
"""

hinge = _separable(
    on_real=lambda real: jax.nn.relu(1 - real),
    on_fake=lambda fake: jax.nn.relu(1 + fake),
    on_generated=lambda fake: -fake,
)
r"""The hinge loss.

At the best critic the critic's mean loss is 2 − 2·TV(p_data, p_G), TV the total variation.

$$
L_D = \max(0, 1 - \mathrm{real}) + \max(0, 1 + \mathrm{fake}), \qquad L_G = -\mathrm{fake}
$$

References:
  Lim & Ye, "Geometric GAN" (2017), arXiv:1705.02894.
  Miyato et al., "Spectral Normalization for Generative Adversarial Networks" (2018),
  arXiv:1802.05957, eq. 16 and 17.
"""

wasserstein = _separable(
    on_real=lambda real: -real,
    on_fake=lambda fake: fake,
    on_generated=lambda fake: -fake,
)
r"""The Wasserstein-1 game, for a critic kept 1-Lipschitz (by a penalty, clipping or its layers).

Over 1-Lipschitz critics, minus the critic's least mean loss is W₁(p_data, p_G).

$$
L_D = \mathrm{fake} - \mathrm{real}, \qquad L_G = -\mathrm{fake}
$$

References:
  Arjovsky, Chintala & Bottou, "Wasserstein GAN" (2017), arXiv:1701.07875, eq. 2.
"""


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Adversarial:
    r"""The least-squares game.

    With b − c = 1 and b − a = 2 (say a = −1, b = 1, c = 0) the generator, at the best critic,
    minimises Pearson's χ²(p_data + p_G ‖ 2·p_G); the default is the paper's 0-1 coding. Smoothed
    labels are a and b themselves.

    $$
    L_D = \tfrac{1}{2} (\mathrm{real} - b)^2 + \tfrac{1}{2} (\mathrm{fake} - a)^2, \qquad
    L_G = \tfrac{1}{2} (\mathrm{fake} - c)^2
    $$

    Args:
      a: the label of generated examples.
      b: the label of real examples.
      c: the label that the generator aims at.

    Returns:
      The game.

    References:
      Mao et al., "Least Squares Generative Adversarial Networks" (2017), arXiv:1611.04076, eq. 2.
    """

    def to(label: float) -> Callable[[Array], Array]:
        return lambda output: 0.5 * jnp.square(output - label)

    return _separable(on_real=to(b), on_fake=to(a), on_generated=to(c))


def label_smoothing(real: float = 0.9, fake: float = 0.0) -> Adversarial:
    r"""The non-saturating game whose critic sees softened labels.

    The generator's labels are never softened. `fake=0` is the one-sided smoothing that the paper
    advises (a positive one rewards the critic for calling its fakes real where the data are
    absent), `fake>0` the two-sided. The best critic is
    σ(D) = (real·p_data + fake·p_G) / (p_data + p_G).

    $$
    L_D = H(\mathrm{real}, \sigma(D(x))) + H(\mathrm{fake}, \sigma(D(G(z)))), \qquad
    L_G = -\log \sigma(D(G(z))), \qquad H(p, q) = -p \log q - (1 - p) \log(1 - q)
    $$

    Args:
      real: the label of real examples, in 0…1.
      fake: the label of generated examples, in 0…1.

    Returns:
      The game.

    Raises:
      ValueError: where a label lies outside 0…1.

    References:
      Salimans et al., "Improved Techniques for Training GANs" (2016), arXiv:1606.03498,
      section 3.4.
    """
    if not is_traced(real, fake) and not (0 <= real <= 1 and 0 <= fake <= 1):
        raise ValueError(f"labels must lie in [0, 1], got real={real} and fake={fake}")

    # As a mix of two softplus: softplus(r) − label·r would cancel where the critic is sure.
    def cross_entropy(label: float) -> Callable[[Array], Array]:
        return lambda r: label * jax.nn.softplus(-r) + (1 - label) * jax.nn.softplus(r)

    return _separable(
        on_real=cross_entropy(real),
        on_fake=cross_entropy(fake),
        on_generated=lambda fake: jax.nn.softplus(-fake),
    )


def relativistic_average(
    base: Adversarial = non_saturating, *, axis_name: str | None = over_batch.DATA_AXIS
) -> Adversarial:
    r"""The relativistic average game: each example against the average one of the other kind.

    It couples the batch: every element depends on all outputs, and gradients flow through the
    means. The generator's loss needs the real outputs. The default base is RaSGAN,
    −log σ(r) − log(1 − σ(f)); `hinge` is RaHingeGAN, `least_squares(-1, 1)` RaLSGAN (with the
    factor ½ of least squares).

    $$
    r = \mathrm{real} - \mathrm{mean}(\mathrm{fake}), \qquad
    f = \mathrm{fake} - \mathrm{mean}(\mathrm{real}), \qquad
    L_D = L_D^{\mathrm{base}}(r, f), \qquad L_G = L_D^{\mathrm{base}}(f, r)
    $$

    Args:
      base: the game whose discriminator's loss is taken.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The game, whose means are over the global batch.

    Raises:
      TypeError: where `base` is a function that makes a game, or a class.

    References:
      Jolicoeur-Martineau, "The relativistic discriminator: a key element missing from standard
      GAN" (2018), arXiv:1807.00734, section 4.
    """

    check_has("discriminator generator", "gan.non_saturating", base=base)

    def relative(real: Array | None, fake: Array) -> tuple[Array, Array]:
        real, fake = _outputs(real, fake)
        mean_real, mean_fake = over_batch.mean((real.mean(), fake.mean()), axis_name)
        return real - mean_fake, fake - mean_real

    def discriminator(real: Array, fake: Array) -> Array:
        return base.discriminator(*relative(real, fake))

    def generator(real: Array | None, fake: Array) -> Array:
        to_real, to_fake = relative(real, fake)
        return base.discriminator(to_fake, to_real)

    return Adversarial(discriminator, generator)


def _pairing() -> Adversarial:
    def discriminator(real: Array, fake: Array) -> Array:
        real, fake = _outputs(real, fake)
        return jax.nn.softplus(fake - real)

    def generator(real: Array | None, fake: Array) -> Array:
        real, fake = _outputs(real, fake)
        return jax.nn.softplus(real - fake)

    return Adversarial(discriminator, generator)


relativistic_pairing = _pairing()
r"""The relativistic pairing game (RpGAN), R3GAN's loss when joined by R1 and R2 penalties.

It couples the two batches: example i of one meets example i of the other, so their order matters;
nothing is shared between different i. The generator's loss needs the real outputs.

$$
L_D = -\log \sigma(\mathrm{real} - \mathrm{fake}), \qquad
L_G = -\log \sigma(\mathrm{fake} - \mathrm{real})
$$

References:
  Jolicoeur-Martineau, "The relativistic discriminator: a key element missing from standard GAN"
  (2018), arXiv:1807.00734, section 4.
  Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline" (2024),
  arXiv:2501.05441, section 2.
"""


def feature_matching(
    real: Array, fake: Array, *, axis_name: str | None = over_batch.DATA_AXIS
) -> Array:
    r"""The squared distance of mean features, which the generator minimises.

    It takes the place of a loss on the critic's output. A batch quantity, hence the scalar; a
    small batch biases it upwards by the variance of the two means.

    $$
    \left\| \mathrm{mean} \, f(x) - \mathrm{mean} \, f(G(z)) \right\|^2
    $$

    Args:
      real: f(x), the activations of an intermediate layer of the critic, [B, ...].
      fake: f(G(z)), like `real`.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      A scalar, of the global batch.

    Raises:
      ValueError: where the shapes differ.

    References:
      Salimans et al., "Improved Techniques for Training GANs" (2016), arXiv:1606.03498,
      section 3.1.
    """
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    if real.shape != fake.shape:
        raise ValueError(
            f"features must have one shape, got real {real.shape} and fake {fake.shape}: "
            "take them from the same layer, for as many real as fake examples"
        )
    dtype = jnp.promote_types(jnp.promote_types(real.dtype, fake.dtype), jnp.float32)
    gap = real.astype(dtype).mean(0) - fake.astype(dtype).mean(0)
    gap = over_batch.mean(gap, axis_name)
    return jnp.square(gap).sum()


def top_k(fake: Array, k: int | Array, *, axis_name: str | None = over_batch.DATA_AXIS) -> Array:
    r"""Weights of a generator's loss that leave out all but the k samples that look most real.

    Multiply the generator's loss by them: their mean is 1, so that the mean of the product is that
    of the k. The paper starts with all of the batch and lowers k by a hundredth per epoch down to
    half of it.

    $$
    w_i = \frac{B}{k} \left[ \mathrm{fake}_i \text{ is among the } k \text{ largest} \right]
    $$

    Args:
      fake: D(G(z)), the critic's raw outputs, [B].
      k: how many samples of the global batch; beyond 1…B it is cut to that.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      [B], without gradient. Of equal outputs the first count.

    Raises:
      ValueError: where `fake` is not [B].

    References:
      Sinha et al., "Top-k Training of GANs: Improving GAN Performance by Throwing Away Bad Samples"
      (2020), arXiv:2002.06224, section 3.
    """
    if fake.ndim != 1:
        raise ValueError(f"critic outputs must be [B], got {fake.shape}: squeeze them")
    everywhere = over_batch.gather(jax.lax.stop_gradient(fake), axis_name)
    count = everywhere.size
    kept = jnp.clip(k, 1, count)
    # Among equal outputs a stable sort of the negatives keeps the first first.
    rank = jnp.argsort(jnp.argsort(-everywhere, stable=True), stable=True)
    weights = jnp.where(rank < kept, count / kept, 0.0)
    return over_batch.own_rows(weights, len(fake), axis_name)


def auxiliary_classifier(logits: Array, label: Array) -> Array:
    r"""What both players of a class-conditional game add to their losses: the class is recognised.

    The critic has a second head that classifies. It adds this at real and, in the paper, at
    generated examples; the generator adds it at its own, with the labels that they were made for.
    A generator that only wants its images recognised draws what is typical: leave the critic's
    classifier unaware of generated images and weigh the generator's term below 1 where classes
    lose variety.

    $$
    -\log \mathrm{softmax}(\mathrm{logits})_{\mathrm{label}}
    $$

    Args:
      logits: of the classes, [B, K].
      label: class numbers, integers in 0…K − 1, [B].

    Returns:
      [B], nats; NaN where the label is no class.

    Raises:
      ValueError: where the shapes do not fit, or the labels are no integers.

    References:
      Odena, Olah & Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs" (2017),
      arXiv:1610.09585, eq. 2 and 3.
    """
    if logits.ndim != 2 or label.shape != logits.shape[:1] or label.dtype.kind not in "iu":
        raise ValueError(
            f"give logits [B, K] and integer labels [B]: logits have {logits.shape}, labels are "
            f"{label.dtype} {label.shape}"
        )
    log_p = jax.nn.log_softmax(widen(logits), axis=-1)
    chosen = jnp.take_along_axis(
        log_p, label[:, None].astype(jnp.int32), axis=1, mode="fill", fill_value=jnp.nan
    )
    known = (label >= 0) & (label < logits.shape[-1])  # −1 would count from the end
    return -jnp.where(known, chosen[:, 0], jnp.nan)


def adaptive_weight(
    reconstruction: Callable[[Any], Array],
    adversarial: Callable[[Any], Array],
    last: Any,
    *,
    epsilon: float = 1e-4,
    most: float = 1e4,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> Array:
    r"""The weight of an autoencoder's adversarial loss at which both losses pull equally.

    A batch quantity: the gradients are those of means over the batch. No gradient flows through
    it; the paper multiplies it by a further constant.

    $$
    \lambda = \min\left( \frac{\| \nabla_{w} \mathcal{L}_{\mathrm{rec}} \|}
      {\| \nabla_{w} \mathcal{L}_G \| + \varepsilon},\; \mathrm{most} \right)
    $$

    Args:
      reconstruction: w -> the reconstruction loss, [B].
      adversarial: w -> the generator's loss, [...], one value per example or patch.
      last: w, the parameters of the decoder's last layer.
      epsilon: ε.
      most: the greatest weight.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      λ, a scalar, of the global batch.

    References:
      Esser, Rombach & Ommer, "Taming Transformers for High-Resolution Image Synthesis" (2021),
      arXiv:2012.09841, eq. 7; ε and the greatest weight are those of the authors' code.
    """

    def norm(loss: Callable[[Any], Array]) -> Array:
        slopes = jax.grad(lambda w: loss(w).mean())(jax.lax.stop_gradient(last))
        slopes = jax.tree.leaves(over_batch.mean(slopes, axis_name))
        return jnp.sqrt(sum((jnp.square(widen(x)).sum() for x in slopes), jnp.zeros(())))

    weight = norm(reconstruction) / (norm(adversarial) + epsilon)
    return jax.lax.stop_gradient(jnp.minimum(weight, most))
