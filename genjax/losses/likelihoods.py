"""Negative log-likelihoods of images under a decoder's output, in nats per image."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from genjax import numerics, over_batch


def bernoulli_nll(logits: Array, x: Array) -> Array:
    r"""−log of a Bernoulli's probability, from its logits.

    Targets strictly between 0 and 1 give the cross entropy: the field's usual objective on grey
    values, but no likelihood of them.

    $$
    \sum_i x_i \, \mathrm{softplus}(-l_i) + (1 - x_i) \, \mathrm{softplus}(l_i)
    $$

    Args:
      logits: l, [B, ...].
      x: images, like `logits`, in 0…1.

    Returns:
      [B], nats per image.

    Raises:
      ValueError: where x is of integers, or the shapes differ.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, appendix C.1.
    """
    numerics.check_floats(x=x)
    logits, x = numerics.widen(logits), numerics.widen(x)
    numerics.check_same_shape(logits=logits, x=x)
    # XLA's CPU code for small trailing axes, as in [B, 28, 28, 1], is some eight times slower.
    logits, x = (a.reshape(len(a), math.prod(a.shape[1:])) for a in (logits, x))
    # One exp of −|l|: nothing overflows, nothing cancels. `where` and not abs, whose derivative at
    # 0 would spoil the second derivative of a zero-initialised decoder.
    size = jnp.where(logits >= 0, logits, -logits)
    wrong = jnp.where(logits >= 0, 1 - x, x)
    return numerics.sum_per_example(wrong * size + jnp.log1p(jnp.exp(-size)))


def gaussian_nll(mean: Array, x: Array, *, sigma: float | Array = 1.0) -> Array:
    r"""−log of the density of a Gaussian of given σ, which can be negative.

    At σ = 1 it is half the squared error and a constant.

    $$
    \sum_i \frac{1}{2} \left( \frac{x_i - \mu_i}{\sigma} \right)^2 + \log \sigma
      + \frac{1}{2} \log 2\pi
    $$

    Args:
      mean: μ, [B, ...].
      x: images, like `mean`.
      sigma: σ > 0, a scalar, or an array of the rank of x that broadcasts to it.

    Returns:
      [B], nats per image.

    Raises:
      ValueError: where x is of integers, the shapes of `mean` and x differ, or `sigma` does not
        broadcast.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, appendix C.2.
    """
    numerics.check_floats(x=x)
    mean, x, sigma = numerics.widen(mean), numerics.widen(x), numerics.widen(sigma)
    numerics.check_same_shape(mean=mean, x=x)
    _broadcasts(sigma=sigma, x=x)
    return numerics.sum_per_example(
        0.5 * ((x - mean) / sigma) ** 2 + jnp.log(sigma) + _HALF_LOG_2PI
    )


def gaussian_learned_variance_nll(parameters: tuple[Array, Array], x: Array) -> Array:
    r"""−log of the density of a Gaussian whose variance is learnt.

    There is no floor on the variance: where the mean can match x, the optimum is −∞. Under
    log σ² = −60, where 1/σ passes float32's reach, 1/σ continues as its tangent in log σ.

    $$
    \sum_i \frac{1}{2} (x_i - \mu_i)^2 e^{-\log \sigma_i^2} + \frac{1}{2} \log \sigma_i^2
      + \frac{1}{2} \log 2\pi
    $$

    Args:
      parameters: (mean, log_var), mean [B, ...]; log_var a scalar (one variance shared by all) or
        an array of the rank of x that broadcasts to it.
      x: images, like mean.

    Returns:
      [B], nats per image.

    Raises:
      ValueError: where x is of integers, the shapes of mean and x differ, or log_var does not
        broadcast.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, appendix C.2.
    """
    numerics.check_floats(x=x)
    mean, log_var = parameters
    mean, log_var, x = numerics.widen(mean), numerics.widen(log_var), numerics.widen(x)
    numerics.check_same_shape(mean=mean, x=x)
    _broadcasts(log_var=log_var, x=x)
    residual = (x - mean) * numerics.exp_with_tangent(-0.5 * log_var)
    return numerics.sum_per_example(0.5 * residual**2 + 0.5 * log_var + _HALF_LOG_2PI)


def optimal_variance(
    mean: Array,
    x: Array,
    *,
    min_sigma: float = math.exp(-6),
    axis_name: str | None = over_batch.DATA_AXIS,
) -> Array:
    r"""The maximum-likelihood variance that the global batch shares.

    $$
    \sigma_*^2 = \max\left(\sigma_{\min}^2, \; \frac{1}{BD} \sum_{b,i} (x_{bi} - \mu_{bi})^2 \right)
    $$

    Args:
      mean: μ, [B, ...].
      x: images, like `mean`.
      min_sigma: the least σ, in the unit of x; e⁻⁶ in the code of Rybkin et al.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      A scalar, squared unit of x.

    Raises:
      ValueError: where x is of integers, or the shapes differ.

    References:
      Rybkin, Daniilidis & Levine, "Simple and Effective VAE Training with Calibrated Decoders"
      (2021), arXiv:2006.13202, section 4.
    """
    numerics.check_floats(x=x)
    mean, x = numerics.widen(mean), numerics.widen(x)
    numerics.check_same_shape(mean=mean, x=x)
    variance = over_batch.mean(jnp.mean((x - mean) ** 2), axis_name)
    return jnp.maximum(variance, min_sigma**2)


def gaussian_optimal_variance_nll(
    mean: Array,
    x: Array,
    *,
    min_sigma: float = math.exp(-6),
    axis_name: str | None = over_batch.DATA_AXIS,
) -> Array:
    r"""`gaussian_nll` with σ = σ*, the σ-VAE.

    Not independent per example: σ*² is the batch's (see `optimal_variance`). No gradient flows
    into σ*²: at the optimum the batch mean's derivative by it is zero anyway. The mean over the
    batch, of images with D elements, is

    $$
    \frac{D}{2} \left( \log 2\pi\sigma_*^2 + 1 \right)
    $$

    Args:
      mean: μ, [B, ...].
      x: images, like `mean`.
      min_sigma: the least σ, in the unit of x; e⁻⁶ in the code of Rybkin et al.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      [B], nats per image.

    Raises:
      ValueError: where x is of integers, or the shapes differ.

    References:
      Rybkin, Daniilidis & Levine, "Simple and Effective VAE Training with Calibrated Decoders"
      (2021), arXiv:2006.13202, section 4.
    """
    variance = optimal_variance(mean, x, min_sigma=min_sigma, axis_name=axis_name)
    return gaussian_nll(mean, x, sigma=jnp.sqrt(jax.lax.stop_gradient(variance)))


def discretized_logistic_nll(
    parameters: tuple[Array, Array],
    x: Array,
    *,
    low: float = 0.0,
    high: float = 1.0,
    bins: int = 256,
) -> Array:
    r"""−log of the probability that a logistic distribution gives to the bins of the pixels.

    Each x counts as the nearest of the `bins` values low … high, so no gradient flows to it. It is
    a probability, so the result is never negative. The outer bins reach to ±∞.

    $$
    -\sum_i \log \left[ \mathrm{sigmoid}\left(\frac{x_i + w/2 - \mu_i}{s_i}\right)
      - \mathrm{sigmoid}\left(\frac{x_i - w/2 - \mu_i}{s_i}\right) \right],
    \qquad w = \frac{\mathrm{high} - \mathrm{low}}{\mathrm{bins} - 1}
    $$

    Args:
      parameters: (mean, log_scale), mean [B, ...] in the unit of x; log_scale a scalar or an array
        of the rank of x that broadcasts to it.
      x: images, like mean, in low…high.
      low: the centre of the first bin.
      high: the centre of the last bin.
      bins: number of bins, 256 for images of bytes.

    Returns:
      [B], nats per image.

    Raises:
      ValueError: where x is of integers, the shapes of mean and x differ, or log_scale does not
        broadcast.

    References:
      Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow" (2016),
      arXiv:1606.04934, appendix C.
    """
    numerics.check_floats(x=x)
    mean, log_scale = parameters
    mean, log_scale, x = numerics.widen(mean), numerics.widen(log_scale), numerics.widen(x)
    numerics.check_same_shape(mean=mean, x=x)
    _broadcasts(log_scale=log_scale, x=x)
    return -numerics.sum_per_example(_log_bin(mean, log_scale, x, low, high, bins))


def discretized_logistic_mixture_nll(
    parameters: Array, x: Array, *, low: float = 0.0, high: float = 1.0, bins: int = 256
) -> Array:
    r"""−log of the probability of pixels under K discretised logistics with coupled channels.

    Channel c's mean is μ_c + Σ_{d<c} tanh(a_cd)·x_d. The paper's code clips log scales at −7, which
    is left to the caller.

    $$
    -\sum_{\mathrm{pixels}} \log \sum_k \pi_k \prod_c P_k(x_c \mid x_{<c})
    $$

    Args:
      parameters: [B, ..., K·(1 + 2C + C(C−1)/2)] (10K for RGB, 3K for grey). Along the last axis: K
        logits of π; C·K means; C·K log scales; C(C−1)/2·K couplings a, in the order (1, 0), (2, 0),
        (2, 1), …
      x: images, [B, ..., C], in low…high.
      low: the centre of the first bin.
      high: the centre of the last bin.
      bins: number of bins, 256 for images of bytes.

    Returns:
      [B], nats per image.

    Raises:
      ValueError: where x is of integers, or the shape of `parameters` does not fit x.

    References:
      Salimans et al., "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
      Likelihood and Other Modifications" (2017), arXiv:1701.05517, section 2.
    """
    numerics.check_floats(x=x)
    parameters, x = numerics.widen(parameters), numerics.widen(x)
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
    return -numerics.sum_per_example(log_pixel.reshape(x.shape[:-1]))


def categorical_nll(logits: Array, x: Array) -> Array:
    r"""−log of a categorical distribution's probability, from its logits.

    $$
    -\sum_i \log \mathrm{softmax}(l_i)_{x_i}
    $$

    Args:
      logits: l, [B, ..., V].
      x: integers in 0…V−1, [B, ...].

    Returns:
      [B], nats per image; NaN where an integer is out of range.

    Raises:
      ValueError: where the shape of `logits` is not that of x and one axis more.
      TypeError: where x is not of integers.
    """
    logits, x = numerics.widen(logits), jnp.asarray(x)
    if logits.shape[:-1] != x.shape:
        raise ValueError(
            f"give logits x's shape and one axis more: logits have {logits.shape}, x has {x.shape}"
        )
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"give categorical_nll the integers 0 … V−1, not {x.dtype}")
    # A negative index would count from the end.
    index = jnp.where(x < 0, logits.shape[-1], x.astype(jnp.int32))[..., None]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), index, axis=-1, mode="fill")
    return -numerics.sum_per_example(log_p[..., 0])


def _log_bin(mean: Array, log_scale: Array, x: Array, low: float, high: float, bins: int) -> Array:
    """log[σ(b) − σ(a)] = log σ(b) + log σ(−a) + log(1 − exp(a−b)): exact, and nothing cancels."""
    width = (high - low) / (bins - 1)
    log_width = numerics.math_of(width).log(width)
    index = jnp.clip(jnp.round((x - low) / width), 0, bins - 1)
    # Bin k's upper edge is the same float as bin k+1's lower one, so that the sum over bins is 1.
    upper, lower = (low + (index + side) * width - mean for side in (0.5, -0.5))
    inverse = numerics.exp_with_tangent(-log_scale)
    below_top = jnp.where(index < bins - 1, -jax.nn.softplus(-upper * inverse), 0)
    above_bottom = jnp.where(index > 0, -jax.nn.softplus(lower * inverse), 0)
    inside = jnp.where((index > 0) & (index < bins - 1), _log1mexp(log_width - log_scale), 0)
    return below_top + above_bottom + inside


def _log1mexp(log_u: Array) -> Array:
    """log(1 − exp(−u)) from log u, so that a scale past float32's reach still gives log u."""
    small, large = jnp.minimum(log_u, -5), jnp.maximum(log_u, -5)
    u = jnp.exp(small)
    return jnp.where(
        log_u < -5,
        small - u / 2 + u**2 / 24,
        jnp.log(-jnp.expm1(-numerics.exp_with_tangent(large))),
    )


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _broadcasts(**arrays: Array) -> None:
    # [B] against [B, H, W, C] would broadcast along C: ask for the rank to be written out.
    (a, p), (b, q) = arrays.items()
    fits = p.ndim == q.ndim and all(m in (1, n) for m, n in zip(p.shape, q.shape, strict=True))
    if p.ndim and not fits:
        raise ValueError(
            f"give {a} as a number, or with {b}'s rank and sizes 1 or {b}'s: "
            f"{a} has {p.shape}, {b} has {q.shape}"
        )
