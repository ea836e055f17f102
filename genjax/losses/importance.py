"""Importance-weighted bounds of a VAE: IWAE and its kin, their gradients, log p(x)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics

Encode = Callable[[Array], tuple[Array, Array]]  # x -> (mean, log_var) of q(z|x)
Decode = Callable[[Array], Any]  # z -> parameters
Nll = Callable[[Any, Array], Array]  # (parameters, x) -> [B], nats per image


class Estimate(NamedTuple):
    """An importance-sampled likelihood.

    Attributes:
      log_likelihood: log p(x), [B], nats per image.
      effective_samples: how many samples carried the estimate, [B], 1…k.
    """

    log_likelihood: Array
    effective_samples: Array


def iwae(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
) -> Array:
    r"""The importance-weighted bound of −log p(x) with k samples and p(z) = N(0, I).

    It bounds −log p(x) from above in expectation; at k = 1 it is −ELBO with a sampled KL. Its
    gradient weighs sample i by softmax(log w)_i.

    $$
    -\log \frac{1}{k} \sum_{i=1}^{k} w_i, \qquad w_i = \frac{p(x|z_i) \, p(z_i)}{q(z_i|x)}, \qquad
      z_i \sim q(z|x)
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per image.

    Returns:
      [B], nats per image.

    Raises:
      TypeError: where the number of samples is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      eq. 8.
    """
    log_w = log_weights(encode, decode, x, key, nll=nll, samples=samples)
    return _in_groups(log_w, 1)


def dreg(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
) -> Array:
    r"""The value of `iwae`, with the doubly reparameterised gradient for the encoder.

    The decoder's gradient is that of `iwae`, Σ w̃_i ∂log w_i with w̃ = softmax(log w). The
    encoder's, below, is as unbiased, and its signal does not drown as k grows. At k = 1 it is
    sticking the landing. First derivatives only.

    $$
    \nabla_\phi = \sum_{i=1}^{k} \tilde w_i^2 \, \frac{\partial \log w_i}{\partial z_i}
      \, \frac{\partial z_i}{\partial \phi}
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per image.

    Returns:
      [B], nats per image.

    Raises:
      TypeError: where the number of samples is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Tucker et al., "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives"
      (2019), arXiv:1810.04152.
      Roeder, Wu & Duvenaud, "Sticking the Landing" (2017), arXiv:1703.09194.
    """
    numerics.check_static(samples=samples)
    mean, log_var = _posterior(encode, x)
    sg = jax.lax.stop_gradient
    fixed_mean, fixed_log_var = sg(mean), sg(log_var)
    noise = _sample_noise(key, mean.shape, jnp.arange(samples))
    # z in units of the fixed posterior: worth exactly the noise, but moving with mean and log_var.
    # (z − μ)/σ in its place would cancel as σ → 0.
    shift = numerics.widen(mean - fixed_mean) * numerics.exp_with_tangent(
        -0.5 * numerics.widen(fixed_log_var)
    )
    moving = noise + shift[None] + 0.5 * noise * numerics.widen(log_var - fixed_log_var)[None]

    def weights(u: Array) -> Array:
        return _log_weights(u, fixed_mean, fixed_log_var, decode, x, nll)

    # Both calls have equal values, and XLA merges them: the decoder runs once.
    normalized = jax.nn.softmax(sg(weights(sg(moving))), axis=0)
    log_w = weights(_scale_gradient(moving, normalized))
    surrogate = -jnp.sum(normalized * log_w, axis=0)
    value = _in_groups(sg(log_w), 1)
    return value + surrogate - sg(surrogate)


def log_likelihood(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int = 5000,
    chunk: int = 50,
) -> Estimate:
    r"""An estimate of log p(x), in expectation from below, for evaluation: without gradient.

    The samples are those of `iwae`, whatever the chunk. Where few samples are effective, the
    estimate is low by nats.

    $$
    \log p(x) \approx \log \frac{1}{k} \sum_{i=1}^{k} w_i
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per image.
      chunk: samples that are in memory at a time.

    Returns:
      log p(x), [B], nats per image, and the number of effective samples, [B].

    Raises:
      TypeError: where the number of samples is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      section 5.
    """
    numerics.check_static(samples=samples, chunk=chunk)
    mean, log_var = _posterior(encode, x)
    chunk = min(chunk, samples)

    def add(totals: tuple, start: Array) -> tuple[tuple, None]:
        index = start + jnp.arange(chunk)
        noise = _sample_noise(key, mean.shape, index)
        log_w = _log_weights(noise, mean, log_var, decode, x, nll)
        log_w = jnp.where((index < samples)[:, None], log_w, -jnp.inf)
        # Sums of w and w² in units of the largest w so far: logarithms of the sums would keep
        # fewer digits of their ratio the larger |log w| is.
        top, first, second = totals
        new_top = jnp.maximum(top, jnp.max(log_w, axis=0))
        shrink, w = jnp.exp(top - new_top), jnp.exp(log_w - new_top[None])
        first = first * shrink + jnp.sum(w, axis=0)
        return (new_top, first, second * shrink**2 + jnp.sum(w**2, axis=0)), None

    zero = jnp.zeros(x.shape[0], numerics.widen(mean).dtype)
    start = (jnp.full_like(zero, jnp.finfo(zero.dtype).min), zero, zero)
    (top, first, second), _ = jax.lax.scan(add, start, jnp.arange(0, samples, chunk))
    estimate = Estimate(top + jnp.log(first) - math.log(samples), first**2 / second)
    return jax.lax.stop_gradient(estimate)


def log_weights(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
) -> Array:
    r"""The log importance weights of the samples of `iwae`.

    $$
    \log w_i = \log p(x|z_i) + \log p(z_i) - \log q(z_i|x)
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per image.

    Returns:
      [k, B], nats.

    Raises:
      TypeError: where the number of samples is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      eq. 8.
    """
    numerics.check_static(samples=samples)
    mean, log_var = _posterior(encode, x)
    noise = _sample_noise(key, mean.shape, jnp.arange(samples))
    return _log_weights(noise, mean, log_var, decode, x, nll)


def mean_elbo(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
) -> Array:
    r"""The negative ELBO as a mean over several samples of the posterior.

    $$
    -\frac{1}{k} \sum_{i=1}^{k} \log w_i
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per image.

    Returns:
      [B], nats per image.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      eq. 4.
    """
    return -log_weights(encode, decode, x, key, nll=nll, samples=samples).mean(0)


def miwae(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
    groups: int,
) -> Array:
    r"""The mean of m bounds `iwae` of k samples each.

    As many decodings as IWAE with m k samples, a looser bound, and an encoder gradient whose noise
    falls with m. With one group it is IWAE, with one sample the ELBO.

    $$
    -\frac{1}{m} \sum_{j=1}^{m} \log \frac{1}{k} \sum_{i=1}^{k} w_{ij}
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per group.
      groups: m.

    Returns:
      [B], nats per image.

    Raises:
      TypeError: where one of the two numbers is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better" (2018),
      arXiv:1802.04537, section 6.
    """
    numerics.check_static(samples=samples, groups=groups)
    log_w = log_weights(encode, decode, x, key, nll=nll, samples=samples * groups)
    return _in_groups(log_w, groups)


def piwae(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
    groups: int,
) -> Array:
    r"""The value of `iwae` with m k samples, with the encoder's gradient of `miwae`.

    The decoder learns from the tightest bound that the samples give, the encoder from the one whose
    gradient is the least noisy. First derivatives only.

    $$
    \nabla_\theta = \nabla_\theta \mathcal{L}_{\mathrm{IWAE}}^{(mk)}, \qquad
    \nabla_\phi = \nabla_\phi \mathcal{L}_{\mathrm{MIWAE}}^{(m, k)}
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes; image i's depend on z_i alone.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per group.
      groups: m.

    Returns:
      [B], nats per image.

    Raises:
      TypeError: where one of the two numbers is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better" (2018),
      arXiv:1802.04537, section 6.
    """
    numerics.check_static(samples=samples, groups=groups)
    posterior, sg = encode(x), jax.lax.stop_gradient

    def weights(posterior: Any) -> Array:
        of = (lambda x: posterior), decode, x, key
        return log_weights(*of, nll=nll, samples=samples * groups)

    # What the encoder's outputs would move `miwae` by, while the decoder is held.
    slopes = jax.grad(lambda p: _in_groups(weights(p), groups).sum())(sg(posterior))
    pull: Any = 0.0
    for slope, value in zip(slopes, posterior, strict=True):
        pull += numerics.sum_per_example(numerics.widen(sg(slope) * value))
    log_w = weights(sg(posterior))
    return _in_groups(log_w, 1) + pull - sg(pull)


def ciwae(
    encode: Encode,
    decode: Decode,
    x: Array,
    key: Array,
    *,
    nll: Nll,
    samples: int,
    beta: float | Array,
) -> Array:
    r"""A combination of the ELBO and the bound of `iwae`, on the same k samples.

    $$
    -\beta \, \frac{1}{k} \sum_{i=1}^{k} \log w_i
      - (1 - \beta) \log \frac{1}{k} \sum_{i=1}^{k} w_i
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      samples: k, the number of samples per image.
      beta: β, the share of the ELBO, in 0..1; the paper uses 0.005 to 0.5.

    Returns:
      [B], nats per image.

    Raises:
      TypeError: where the number of samples is traced.
      ValueError: where mean and log_var are not both [B, ...] of one shape, or there is another
        number of keys.

    References:
      Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better" (2018),
      arXiv:1802.04537, section 6.
    """
    log_w = log_weights(encode, decode, x, key, nll=nll, samples=samples)
    return beta * -log_w.mean(0) + (1 - beta) * _in_groups(log_w, 1)


def over_noise(
    estimate: Callable[..., Any],
    parts: Callable[[Array, Array], tuple[Array, Array]],
    x: Array,
    key: Array,
    *,
    size: int,
    **options: Any,
) -> Any:
    r"""An estimate for a model whose latents are functions of standard normal noise.

    To the estimate the noise is the latent: its posterior is its prior, which leaves the complete
    weight to the parts, however many layers of latents there are.

    $$
    w(\varepsilon) = \frac{p(x, z(\varepsilon))}{q(z(\varepsilon) \mid x)}, \qquad
    -\log w = \mathrm{nll} + \mathrm{kl}
    $$

    Args:
      estimate: a function of this module that takes encode, decode, x, key and nll.
      parts: (noise [B, size], x) -> −log p(x|z) and log q(z|x)/p(z) at one draw, nats, [B] each.
      x: images, [B, ...].
      key: one key, or one per image [B].
      size: numbers of noise per image.
      **options: of the estimate.

    Returns:
      What the estimate returns.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      section 3, for several stochastic layers.
    """
    still = jnp.zeros((len(x), size))
    return estimate(
        lambda x: (still, still),
        lambda noise: noise,
        x,
        key,
        nll=lambda noise, x: sum(parts(noise, x)),
        **options,
    )


def effective_sample_size(log_w: Array) -> Array:
    r"""How many equally weighted samples carry as much information as the weighted ones.

    $$
    \frac{\left(\sum_i w_i\right)^2}{\sum_i w_i^2}
    $$

    Args:
      log_w: log weights, [k, B].

    Returns:
      [B], from 1 (one sample has all the weight) to k (all weigh the same).

    References:
      Kong, "A Note on Importance Sampling Using Standardized Weights" (University of Chicago,
      1992).
    """
    return 1 / jnp.sum(jax.nn.softmax(log_w, axis=0) ** 2, axis=0)


def _posterior(encode: Encode, x: Array) -> tuple[Array, Array]:
    mean, log_var = encode(x)
    numerics.check_floats(mean=mean)
    if mean.shape != log_var.shape or mean.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"give mean and log_var one shape [B, ...]: mean has {mean.shape}, log_var has "
            f"{log_var.shape}, x has {x.shape}"
        )
    return mean, log_var


def _in_groups(log_w: Array, groups: int) -> Array:
    """log_w: [groups · k, B] -> [B]."""
    log_w = log_w.reshape(groups, -1, log_w.shape[-1])
    return math.log(log_w.shape[1]) - jax.nn.logsumexp(log_w, axis=1).mean(0)


def _log_weights(
    noise: Array, mean: Array, log_var: Array, decode: Decode, x: Array, nll: Nll
) -> Array:
    """noise: [k, B, ...], z = μ + σ·noise -> [k, B]."""
    wide_log_var = numerics.widen(log_var)
    z = numerics.widen(mean)[None] + numerics.exp_with_tangent(0.5 * wide_log_var)[None] * noise
    # log q takes ε itself and not (z − μ)/σ; the log 2π of p(z) and q cancel.
    log_ratio = 0.5 * (noise**2 + wide_log_var[None] - z**2)
    log_ratio = jnp.sum(log_ratio, axis=tuple(range(2, z.ndim)))
    return log_ratio - jax.vmap(lambda z: nll(decode(z), x))(z.astype(mean.dtype))


@jax.custom_jvp
def _scale_gradient(a: Array, scale: Array) -> Array:
    """a, whose gradient is multiplied by scale [k, B]."""
    return a


@_scale_gradient.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    a, scale = primals
    return a, tangents[0] * numerics.expand(scale, a)


def _sample_noise(key: Array, shape: tuple[int, ...], index: Array) -> Array:
    """Noise [k, *shape] for the samples numbered `index` [k], whatever the other numbers are."""
    keys.check_batch(key, shape[0])

    def draw(key: Array, shape: tuple[int, ...]) -> Array:
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(index)

    if keys.is_single(key):
        return draw(key, shape)
    return jax.vmap(lambda k: draw(k, shape[1:]), out_axes=1)(key)
