"""Adversarial losses: what a critic and a generator each minimise, from the critic's outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array


@dataclass(frozen=True)
class Adversarial:
    """The two losses of one adversarial game, each giving one number per example.

    `discriminator(real, fake) -> [B]` is what the critic minimises, `generator(real, fake) -> [B]`
    what the generator minimises, where real [B] = D(x) and fake [B] = D(G(z)) are the critic's raw
    outputs (logits, before any sigmoid). Units: nats for the logistic losses. Element i of the
    discriminator's loss is the term of real i plus the term of fake i, so that its mean over the
    batch estimates the paper's sum of two expectations. A generator's loss that does not look at
    the real examples accepts `real=None`. Outputs are float32 at least, also for bfloat16 inputs.

    Raises ValueError if real and fake are not both of one shape [B].
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
"""The saturating game, on logits; σ is the sigmoid.

discriminator: −log σ(real) − log(1 − σ(fake));  generator: log(1 − σ(fake)).
At the best critic, minus the critic's mean loss is 2·JSD(p_data, p_G) − log 4.
Goodfellow et al., "Generative Adversarial Nets" (2014), eq. 1.
"""

non_saturating = _separable(
    on_real=lambda real: jax.nn.softplus(-real),
    on_fake=jax.nn.softplus,
    on_generated=lambda fake: jax.nn.softplus(-fake),
)
"""The minimax critic with a generator's loss that does not vanish when the critic wins.

discriminator: −log σ(real) − log(1 − σ(fake));  generator: −log σ(fake).
Goodfellow et al., "Generative Adversarial Nets" (2014), section 3.
"""

hinge = _separable(
    on_real=lambda real: jax.nn.relu(1 - real),
    on_fake=lambda fake: jax.nn.relu(1 + fake),
    on_generated=lambda fake: -fake,
)
"""The hinge loss.

discriminator: max(0, 1 − real) + max(0, 1 + fake);  generator: −fake.
At the best critic the critic's mean loss is 2 − 2·TV(p_data, p_G), TV the total variation.
Lim & Ye, "Geometric GAN" (2017); Miyato et al., "Spectral Normalization for GANs" (2018).
"""

wasserstein = _separable(
    on_real=lambda real: -real,
    on_fake=lambda fake: fake,
    on_generated=lambda fake: -fake,
)
"""The Wasserstein-1 game, for a critic kept 1-Lipschitz (by a penalty, clipping or its layers).

discriminator: fake − real;  generator: −fake.
Over 1-Lipschitz critics, minus the critic's least mean loss is W₁(p_data, p_G).
Arjovsky et al., "Wasserstein GAN" (2017), eq. 2.
"""


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Adversarial:
    """The least-squares game: a labels fake, b labels real, c is what the generator aims at.

    discriminator: ½(real − b)² + ½(fake − a)²;  generator: ½(fake − c)².
    With b − c = 1 and b − a = 2 (say a = −1, b = 1, c = 0) the generator, at the best critic,
    minimises Pearson's χ²(p_data + p_G ‖ 2·p_G); the default is the paper's 0-1 coding. Smoothed
    labels are a and b themselves.
    Mao et al., "Least Squares Generative Adversarial Networks" (2017), eq. 2.
    """

    def to(label: float) -> Callable[[Array], Array]:
        return lambda output: 0.5 * jnp.square(output - label)

    return _separable(on_real=to(b), on_fake=to(a), on_generated=to(c))


def label_smoothing(real: float = 0.9, fake: float = 0.0) -> Adversarial:
    """The non-saturating game whose critic is told softened labels, `real` and `fake` in [0, 1].

    discriminator: H(real, σ(r)) + H(fake, σ(f)), H(p, q) = −p·log q − (1 − p)·log(1 − q), on
    logits r and f;  generator: −log σ(f), its labels never softened. `fake=0` is the one-sided
    smoothing that the paper advises (a positive one rewards the critic for calling its fakes real
    where the data are absent), `fake>0` the two-sided. The best critic is
    σ(D) = (real·p_data + fake·p_G) / (p_data + p_G).

    Raises ValueError if a label lies outside [0, 1].
    Salimans et al., "Improved Techniques for Training GANs" (2016), section 3.4.
    """
    if not (0 <= real <= 1 and 0 <= fake <= 1):
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
    base: Adversarial = non_saturating, *, axis_name: str | None = None
) -> Adversarial:
    """The relativistic average game: each example against the average one of the other kind.

    With r = real − mean(fake) and f = fake − mean(real), where the means are over the batch,
    discriminator: base.discriminator(r, f);  generator: base.discriminator(f, r).
    The default base gives RaSGAN, −log σ(r) − log(1 − σ(f)); `hinge` gives RaHingeGAN,
    `least_squares(-1, 1)` RaLSGAN (with the factor ½ of least squares).

    Couples the batch: every element depends on all outputs, and gradients flow through the means.
    Under pmap or shard_map give the mapped `axis_name`, so that the means run over all devices and
    the loss does not depend on their number.

    Raises ValueError as `Adversarial` does, and if the generator is not given the real outputs.
    Jolicoeur-Martineau, "The relativistic discriminator: a key element missing from standard GAN"
    (2018), section 4.
    """

    def relative(real: Array | None, fake: Array) -> tuple[Array, Array]:
        real, fake = _outputs(real, fake)
        means = real.mean(), fake.mean()
        if axis_name is not None:
            means = jax.lax.pmean(means, axis_name)
        return real - means[1], fake - means[0]

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
"""The relativistic pairing game (RpGAN), R3GAN's loss when joined by R1 and R2 penalties.

discriminator: −log σ(real − fake);  generator: −log σ(fake − real).
Couples the two batches: example i of one meets example i of the other, so their order matters;
nothing is shared between different i. The generator's loss needs the real outputs.
Jolicoeur-Martineau (2018), section 4; Huang et al., "The GAN is dead; long live the GAN! A Modern
GAN Baseline" (2024), section 2.
"""


def feature_matching(real: Array, fake: Array, *, axis_name: str | None = None) -> Array:
    """The squared distance of mean features, ‖mean f(x) − mean f(G(z))‖², one number per batch.

    The generator minimises it in place of a loss on the critic's output; `real` and `fake`
    [B, ...] are the activations of an intermediate layer of the critic.

    A batch quantity, hence the scalar; a small batch biases it upwards by the variance of the two
    means. Under pmap or shard_map give the mapped `axis_name` to average over all devices.

    Raises ValueError if the features' shapes differ.
    Salimans et al., "Improved Techniques for Training GANs" (2016), section 3.1.
    """
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    if real.shape != fake.shape:
        raise ValueError(
            f"features must have one shape, got real {real.shape} and fake {fake.shape}: "
            "take them from the same layer, for as many real as fake examples"
        )
    dtype = jnp.promote_types(jnp.promote_types(real.dtype, fake.dtype), jnp.float32)
    gap = real.astype(dtype).mean(0) - fake.astype(dtype).mean(0)
    if axis_name is not None:
        gap = jax.lax.pmean(gap, axis_name)
    return jnp.square(gap).sum()
