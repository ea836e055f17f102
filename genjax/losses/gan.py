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


def _outputs(real: Array, fake: Array) -> tuple[Array, Array]:
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
