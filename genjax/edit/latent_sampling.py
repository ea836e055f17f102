"""Draws of a decoder's latent given an observation, by Hamiltonian and Langevin Monte Carlo."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.edit import hamiltonian, latent_density
from genjax.edit.chains import diagnose
from genjax.edit.latent_density import Decode, LogPrior
from genjax.edit.operator import Operator
from genjax.numerics import check_static


class Draws(NamedTuple):
    """Latents that explain an observation, and whether to trust them.

    Attributes:
      z: [B, chains, draws, *latent].
      x: the image of each chain's last draw, [B, chains, *operator.shape]: as many answers.
      mean: of the images of all draws, [B, *operator.shape].
      std: their spread per pixel and channel, [B, *operator.shape].
      acceptance: share of accepted proposals, [B].
      step: ε, as the warm-up left it, [B].
      r_hat: the greatest split R̂ of any number in z, [B]: above 1.1 the chains disagree.
      effective_samples: the fewest of any number in z, [B].
      misfit: root mean square of (y − A x)/σ_y over the images x, [B], see
        `latent_density.misfit`.
    """

    z: Array
    x: Array
    mean: Array
    std: Array
    acceptance: Array
    step: Array
    r_hat: Array
    effective_samples: Array
    misfit: Array


def hmc(
    decode: Decode,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    latent: tuple[int, ...],
    noise: float | Array,
    log_prior: LogPrior | None = None,
    start: Array | None = None,
    chains: int = 4,
    draws: int = 200,
    warmup: int = 200,
    thin: int = 1,
    leapfrogs: int = 16,
    step: float = 0.5,
    target_acceptance: float = 0.8,
) -> Draws:
    r"""Hamiltonian Monte Carlo on a decoder's latent: exact as the chains grow.

    From z with momentum p ~ N(0, I), L leapfrog steps of

    $$
    p \leftarrow p + \tfrac{\epsilon}{2} S^\top \nabla \log p(z | y), \qquad
    z \leftarrow z + \epsilon S p, \qquad
    p \leftarrow p + \tfrac{\epsilon}{2} S^\top \nabla \log p(z | y)
    $$

    are accepted with probability min(1, exp(H − H')), H = |p|²/2 − log p(z|y). ε is drawn within
    20 % of what dual averaging finds, so that no trajectory is as long as a period. S makes what y
    determines and what it leaves open equally wide: S Sᵀ = (I + JᵀJ/σ_y²)⁻¹, J the Jacobian of A g
    where the chains are. Both are those of one example, shared by its chains, and fixed when the
    warm-up ends. The I is the prior's: whiten another one (`latent_density.whitened`).

    A chain rarely leaves a mode: `r_hat` shows it if the chains started in different ones. Give
    the ends of `latent_maximum.maximum_a_posteriori` as `start` where N(0, I) is too far off.

    Args:
      decode: g, z [B, *latent] -> x [B, *operator.shape], each example on its own.
      key: one key, or one per example [B]: then example i depends on key i alone.
      y: what was observed, [B, ...].
      operator: A, not necessarily linear, but differentiable.
      latent: shape of one z.
      noise: σ_y in units of x, a positive scalar or one value per example [B]: of y's noise and of
        what the decoder cannot express together.
      log_prior: z [B, *latent] -> [B], differentiable; None for N(0, I).
      start: [B, chains, *latent]; None to draw them from N(0, I).
      chains: per example; each is one answer.
      draws: kept of each chain after the warm-up; memory grows with them alone.
      warmup: transitions that adapt ε and S, and are not kept.
      thin: transitions from one kept draw to the next.
      leapfrogs: L, gradients per transition.
      step: ε at the start.
      target_acceptance: mean probability of acceptance that ε is adapted to.

    Returns:
      The draws and what they are worth. With an R̂ above 1.1 or few effective samples take more
      `warmup`, `draws` or `leapfrogs`, or other starts.

    Raises:
      TypeError: where a number of chains, draws or transitions is traced.
      ValueError: where the noise is not positive, there are fewer than 4 draws or 1 chain, shapes
        do not fit each other, or there is another number of keys.

    References:
      Neal, "MCMC Using Hamiltonian Dynamics" (2011), arXiv:1206.1901, sections 3 and 5.
      Hoffman & Gelman, "The No-U-Turn Sampler" (2014), arXiv:1111.4246, algorithm 5.
    """
    walk = _Walk(chains, draws, warmup, thin, leapfrogs, step, target_acceptance, jitter=0.2)
    return _sample(decode, key, y, operator, latent, noise, log_prior, start, walk)


def mala(
    decode: Decode,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    latent: tuple[int, ...],
    noise: float | Array,
    log_prior: LogPrior | None = None,
    start: Array | None = None,
    chains: int = 4,
    draws: int = 200,
    warmup: int = 1000,
    thin: int = 16,
    step: float = 0.5,
    target_acceptance: float = 0.574,
) -> Draws:
    r"""Metropolis-adjusted Langevin: a step along the gradient with noise, accepted or not.

    $$
    z' = z + \tfrac{\epsilon^2}{2} S S^\top \nabla \log p(z|y) + \epsilon S \xi, \qquad
    \alpha = \min\left(1, \frac{p(z'|y)\, q(z|z')}{p(z|y)\, q(z'|z)}\right)
    $$

    with ξ ~ N(0, I), q the density of that proposal. It is `hmc` with one leapfrog step, and ε and
    S are adapted in the same way. It walks at random where `hmc` travels: per gradient it is mostly
    worth less, the more so the more numbers a latent has.

    Args:
      decode: g, z [B, *latent] -> x [B, *operator.shape], each example on its own.
      key: one key, or one per example [B]: then example i depends on key i alone.
      y: what was observed, [B, ...].
      operator: A, not necessarily linear, but differentiable.
      latent: shape of one z.
      noise: σ_y in units of x, a positive scalar or one value per example [B]: of y's noise and of
        what the decoder cannot express together.
      log_prior: z [B, *latent] -> [B], differentiable; None for N(0, I).
      start: [B, chains, *latent]; None to draw them from N(0, I).
      chains: per example; each is one answer.
      draws: kept of each chain after the warm-up; memory grows with them alone.
      warmup: transitions that adapt ε and S, and are not kept.
      thin: transitions, of one gradient each, from one kept draw to the next.
      step: ε at the start.
      target_acceptance: mean probability of acceptance that ε is adapted to.

    Returns:
      The draws and what they are worth, as of `hmc`.

    Raises:
      TypeError: where a number of chains, draws or transitions is traced.
      ValueError: where the noise is not positive, there are fewer than 4 draws or 1 chain, shapes
        do not fit each other, or there is another number of keys.

    References:
      Roberts & Tweedie, "Exponential Convergence of Langevin Distributions and Their Discrete
      Approximations" (Bernoulli 2, 1996).
      Roberts & Rosenthal, "Optimal Scaling of Discrete Approximations to Langevin Diffusions"
      (Journal of the Royal Statistical Society B 60, 1998), for the acceptance of 0.574.
    """
    walk = _Walk(chains, draws, warmup, thin, 1, step, target_acceptance, jitter=0)
    return _sample(decode, key, y, operator, latent, noise, log_prior, start, walk)


class _Walk(NamedTuple):
    chains: int
    draws: int
    warmup: int
    thin: int
    leapfrogs: int
    step: float
    target: float
    jitter: float

    def check(self) -> None:
        check_static(**self._asdict())
        if self.chains < 1 or self.draws < 4 or self.warmup < 0 or self.thin < 1:
            raise ValueError(
                "give at least 1 chain, 4 draws, 0 transitions of warm-up and 1 from draw to draw, "
                f"not {self.chains}, {self.draws}, {self.warmup} and {self.thin}"
            )
        if self.leapfrogs < 1 or self.step <= 0 or not 0 < self.target < 1:
            raise ValueError(
                "give at least 1 leapfrog step, a positive step and an acceptance in 0..1, not "
                f"{self.leapfrogs}, {self.step} and {self.target}"
            )


class _Images(NamedTuple):
    """Running moments of images: how many, their mean, and the sum of squares around it."""

    number: Array
    mean: Array
    squares: Array

    def add(self, x: Array) -> "_Images":
        n = x.shape[1]
        mean, total = x.mean(1), self.number + n
        change = mean - self.mean
        squares = jnp.sum((x - mean[:, None]) ** 2, 1) + change**2 * self.number * n / total
        return _Images(total, self.mean + change * n / total, self.squares + squares)


def _sample(
    decode: Decode,
    key: Array,
    y: Array,
    operator: Operator,
    latent: tuple[int, ...],
    noise: float | Array,
    log_prior: LogPrior | None,
    start: Array | None,
    walk: _Walk,
) -> Draws:
    walk.check()
    density = latent_density.log_joint(
        decode, y, operator, latent=latent, noise=noise, log_prior=log_prior
    )
    each = latent_density.key_per_example(key, len(y))
    for_warm_up, for_draws = keys.fold_in(each, 1), keys.fold_in(each, 2)
    z = latent_density.starts(each, start, (len(y), walk.chains, *latent))
    at, step, scale = hamiltonian.warm_up(
        density,
        lambda z: latent_density.precision(decode, operator, z, noise),
        hamiltonian.Point(z, *latent_density.with_gradient(density, z)),
        for_warm_up,
        transitions=walk.warmup,
        step=walk.step,
        target=walk.target,
        leapfrogs=walk.leapfrogs,
        jitter=walk.jitter,
    )
    images = jax.vmap(decode, 1, 1)

    def move(
        carry: tuple[hamiltonian.Point, Array], i: Array
    ) -> tuple[tuple[hamiltonian.Point, Array], None]:
        at, total = carry
        now = keys.fold_in(for_draws, i), step, scale
        at, probability = hamiltonian.transition(density, at, *now, walk.leapfrogs, walk.jitter)
        return (at, total + probability.mean(1)), None

    def draw(carry: tuple, i: Array) -> tuple[tuple, Array]:
        at, total, seen = carry
        (at, total), _ = jax.lax.scan(move, (at, total), walk.thin * i + jnp.arange(walk.thin))
        return (at, total, seen.add(images(at.z))), at.z

    empty = jnp.zeros(y.shape[:1] + tuple(operator.shape), at.z.dtype)
    carry = at, jnp.zeros_like(step), _Images(jnp.zeros((), at.z.dtype), empty, empty)
    (at, total, seen), z = jax.lax.scan(draw, carry, jnp.arange(walk.draws))
    z, x = jnp.moveaxis(z, 0, 2), images(at.z)
    r_hat, effective = diagnose(z)
    fits = jax.vmap(latent_density.misfit, (None, None, 1, None), 1)(operator, y, x, noise)
    return Draws(
        z=z,
        x=x,
        mean=seen.mean,
        std=jnp.sqrt(seen.squares / seen.number),
        acceptance=total / (walk.draws * walk.thin),
        step=step,
        r_hat=r_hat,
        effective_samples=effective,
        misfit=jnp.sqrt(jnp.mean(fits**2, 1)),
    )
