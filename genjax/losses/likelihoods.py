"""Negative log-likelihoods of images under a decoder's output, in nats per image."""

import math

import jax
import jax.numpy as jnp
from jax import Array


def bernoulli(logits: Array, x: Array) -> Array:
    """Σ x·softplus(−l) + (1−x)·softplus(l): −log of a Bernoulli's probability, from its logits l.

    logits, x: [B, ...], x in [0, 1]. Gives [B], nats per image. Targets strictly between 0 and 1
    give the cross entropy: the field's usual objective on grey values, but no likelihood of them.
    Kingma & Welling (2014), appendix C.1.
    """
    logits, x = _widen(logits), _widen(x)
    _same_shape(logits=logits, x=x)
    # XLA's CPU code for small trailing axes, as in [B, 28, 28, 1], is some eight times slower.
    logits, x = (a.reshape(len(a), math.prod(a.shape[1:])) for a in (logits, x))
    # One exp of −|l|: nothing overflows, nothing cancels. `where` and not abs, whose derivative at
    # 0 would spoil the second derivative of a zero-initialised decoder.
    size = jnp.where(logits >= 0, logits, -logits)
    wrong = jnp.where(logits >= 0, 1 - x, x)
    return _per_image(wrong * size + jnp.log1p(jnp.exp(-size)))


def gaussian(mean: Array, x: Array, *, sigma: float | Array = 1.0) -> Array:
    """Σ ½((x−μ)/σ)² + log σ + ½log 2π, a Gaussian of fixed σ.

    mean, x: [B, ...]; sigma > 0: a number, or an array of x's rank that broadcasts to it. Gives
    [B], nats per image; a density, so it can be negative. Kingma & Welling (2014), appendix C.2,
    with σ given. At σ = 1 it is ½‖x−μ‖² and a constant.
    """
    mean, x, sigma = _widen(mean), _widen(x), _widen(sigma)
    _same_shape(mean=mean, x=x)
    _broadcasts(sigma=sigma, x=x)
    return _per_image(0.5 * ((x - mean) / sigma) ** 2 + jnp.log(sigma) + _HALF_LOG_2PI)


def gaussian_learned_variance(parameters: tuple[Array, Array], x: Array) -> Array:
    """Σ ½(x−μ)²·exp(−log σ²) + ½log σ² + ½log 2π, a Gaussian whose variance is learnt.

    parameters: (mean, log_var); mean, x: [B, ...]; log_var a scalar (one variance shared by all) or
    an array of x's rank that broadcasts to it. Gives [B], nats per image, with no floor on the
    variance: where the mean can match x, the optimum is −∞. Kingma & Welling (2014), appendix C.2.
    Under log σ² = −60, where 1/σ passes float32's reach, 1/σ goes on as its tangent in log σ.
    """
    mean, log_var = parameters
    mean, log_var, x = _widen(mean), _widen(log_var), _widen(x)
    _same_shape(mean=mean, x=x)
    _broadcasts(log_var=log_var, x=x)
    residual = (x - mean) * _exp(-0.5 * log_var)
    return _per_image(0.5 * residual**2 + 0.5 * log_var + _HALF_LOG_2PI)


def optimal_variance(
    mean: Array, x: Array, *, min_sigma: float = math.exp(-6), axis_name: str | None = None
) -> Array:
    """σ*² = mean of (x−μ)² over batch and elements, the maximum-likelihood shared variance.

    mean, x: [B, ...]. Gives a scalar, of the whole batch; under pmap, name its axis for that of all
    devices. Never under min_sigma² (e⁻⁶ in the code of Rybkin et al., σ-VAE, 2021).
    """
    mean, x = _widen(mean), _widen(x)
    _same_shape(mean=mean, x=x)
    variance = jnp.mean((x - mean) ** 2)
    if axis_name is not None:
        variance = jax.lax.pmean(variance, axis_name)
    return jnp.maximum(variance, min_sigma**2)


def gaussian_optimal_variance(
    mean: Array, x: Array, *, min_sigma: float = math.exp(-6), axis_name: str | None = None
) -> Array:
    """gaussian with σ = σ*, the σ-VAE of Rybkin, Daniilidis & Levine (2021).

    mean, x: [B, ...]. Gives [B], nats per image; its mean over the batch is ½D(log 2πσ*² + 1), D
    elements an image. Not independent per example: σ*² is the batch's (see optimal_variance).
    No gradient flows into σ*²: at the optimum the batch mean's derivative by it is zero anyway.
    """
    variance = optimal_variance(mean, x, min_sigma=min_sigma, axis_name=axis_name)
    return gaussian(mean, x, sigma=jnp.sqrt(jax.lax.stop_gradient(variance)))


def discretized_logistic(
    parameters: tuple[Array, Array],
    x: Array,
    *,
    low: float = 0.0,
    high: float = 1.0,
    bins: int = 256,
) -> Array:
    """−Σ log[σ((x+w/2−μ)/s) − σ((x−w/2−μ)/s)], w = (high−low)/(bins−1), outer bins reaching to ±∞.

    parameters: (mean, log_scale); mean, x: [B, ...] in x's units; log_scale a scalar or an array of
    x's rank that broadcasts to it. Each x counts as the nearest of the `bins` values low … high, so
    no gradient flows to it. Gives [B], nats per image: a probability, never negative. Kingma et
    al., "Improved Variational Inference with Inverse Autoregressive Flow" (2016).
    """
    mean, log_scale = parameters
    mean, log_scale, x = _widen(mean), _widen(log_scale), _widen(x)
    _same_shape(mean=mean, x=x)
    _broadcasts(log_scale=log_scale, x=x)
    return -_per_image(_log_bin(mean, log_scale, x, low, high, bins))


def discretized_logistic_mixture(
    parameters: Array, x: Array, *, low: float = 0.0, high: float = 1.0, bins: int = 256
) -> Array:
    """−Σ_pixels log Σ_k π_k Π_c P_k(x_c | x_<c), K discretised logistics with coupled channels.

    x: [B, ..., C]. parameters: [B, ..., K·(1 + 2C + C(C−1)/2)] (10K for RGB, 3K for grey), along
    the last axis: K logits of π; C·K means; C·K log scales; C(C−1)/2·K couplings a, which tanh
    bounds. Channel c's mean is μ_c + Σ_{d<c} tanh(a_cd)·x_d, in the order (1,0), (2,0), (2,1), ….
    Bins as in discretized_logistic. Gives [B], nats per image. Salimans et al., "PixelCNN++"
    (2017), section 2; its code clips log scales at −7, which is left to the caller.
    """
    parameters, x = _widen(parameters), _widen(x)
    channels = x.shape[-1]
    pairs = [(c, d) for c in range(channels) for d in range(c)]
    per_component = 1 + 2 * channels + len(pairs)
    if parameters.shape[:-1] != x.shape[:-1] or parameters.shape[-1] % per_component:
        raise ValueError(
            f"give parameters x's shape up to the last axis, and there a multiple of "
            f"{per_component}: parameters have {parameters.shape}, x has {x.shape}"
        )
    K, pixels = parameters.shape[-1] // per_component, math.prod(x.shape[:-1])
    # Pixels last: over trailing axes as short as C and K, XLA's CPU code is many times slower.
    rows = parameters.reshape(pixels, per_component, K).transpose(1, 2, 0)  # [1 + 2C + …, K, N]
    logits, mean, log_scale, coupling = jnp.split(rows, (1, 1 + channels, 1 + 2 * channels))
    coupling, x_rows = jnp.tanh(coupling), x.reshape(pixels, channels).T[:, None]  # [C, 1, N]
    shift = [jnp.zeros_like(mean[0])] * channels
    for i, (c, d) in enumerate(pairs):
        shift[c] = shift[c] + coupling[i] * x_rows[d]
    log_p = _log_bin(mean + jnp.stack(shift), log_scale, x_rows, low, high, bins).sum(0)  # [K, N]
    log_pixel = jax.nn.logsumexp(jax.nn.log_softmax(logits[0], axis=0) + log_p, axis=0)  # [N]
    return -_per_image(log_pixel.reshape(x.shape[:-1]))


def categorical(logits: Array, x: Array) -> Array:
    """−Σ log softmax(l)[x]; logits: [B, ..., V], x: [B, ...] integers in 0 … V−1.

    Gives [B], nats per image; NaN where x is out of range.
    """
    logits, x = _widen(logits), jnp.asarray(x)
    if logits.shape[:-1] != x.shape:
        raise ValueError(
            f"give logits x's shape and one axis more: logits have {logits.shape}, x has {x.shape}"
        )
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"give categorical the integers 0 … V−1, not {x.dtype}")
    # A negative index would count from the end.
    index = jnp.where(x < 0, logits.shape[-1], x.astype(jnp.int32))[..., None]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), index, axis=-1, mode="fill")
    return -_per_image(log_p[..., 0])


def _log_bin(mean, log_scale, x, low, high, bins) -> Array:
    """log[σ(b) − σ(a)] = log σ(b) + log σ(−a) + log(1 − exp(a−b)): exact, and nothing cancels."""
    width = (high - low) / (bins - 1)
    index = jnp.clip(jnp.round((x - low) / width), 0, bins - 1)
    # Bin k's upper edge is the same float as bin k+1's lower one, so that the sum over bins is 1.
    upper, lower = (low + (index + side) * width - mean for side in (0.5, -0.5))
    inverse = _exp(-log_scale)
    below_top = jnp.where(index < bins - 1, -jax.nn.softplus(-upper * inverse), 0)
    above_bottom = jnp.where(index > 0, -jax.nn.softplus(lower * inverse), 0)
    inside = jnp.where((index > 0) & (index < bins - 1), _log1mexp(math.log(width) - log_scale), 0)
    return below_top + above_bottom + inside


def _log1mexp(log_u: Array) -> Array:
    """log(1 − exp(−u)) from log u, so that a scale past float32's reach still gives log u."""
    small, large = jnp.minimum(log_u, -5), jnp.maximum(log_u, -5)
    u = jnp.exp(small)
    return jnp.where(log_u < -5, small - u / 2 + u**2 / 24, jnp.log(-jnp.expm1(-_exp(large))))


def _exp(a: Array) -> Array:
    # Past e^30 its tangent: finite, with a gradient that still points home, where exp gives inf.
    return jnp.exp(jnp.minimum(a, 30)) * (1 + jnp.maximum(a - 30, 0))


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _widen(a) -> Array:
    """At least float32: sums and exponentials in bfloat16 would lose the answer."""
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def _per_image(elements: Array) -> Array:
    return jnp.sum(elements, axis=tuple(range(1, elements.ndim)))


def _same_shape(**arrays: Array) -> None:
    (a, p), (b, q) = arrays.items()
    if p.shape != q.shape:
        raise ValueError(f"give {a} and {b} one shape: {a} has {p.shape}, {b} has {q.shape}")


def _broadcasts(**arrays: Array) -> None:
    # [B] against [B, H, W, C] would broadcast along C: ask for the rank to be written out.
    (a, p), (b, q) = arrays.items()
    fits = p.ndim == q.ndim and all(m in (1, n) for m, n in zip(p.shape, q.shape, strict=True))
    if p.ndim and not fits:
        raise ValueError(
            f"give {a} as a number, or with {b}'s rank and sizes 1 or {b}'s: "
            f"{a} has {p.shape}, {b} has {q.shape}"
        )
