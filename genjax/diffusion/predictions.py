"""What a network may predict of z = α x + σ ε, as values, and the conversions among them.

Read the values with the module's name in front: `predictions.noise`, `predictions.velocity`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from genjax.diffusion.protocols import Prediction
from genjax.numerics import expand


@dataclass(frozen=True)
class Noise(Prediction):
    r"""The noise. It determines no data where α = 0.

    $$
    F = \epsilon
    $$

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239.
    """

    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return eps

    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return (z - expand(sigma, z) * prediction) / expand(alpha, z)

    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return prediction

    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        return jnp.ones_like(alpha)


@dataclass(frozen=True)
class Data(Prediction):
    r"""The data. They determine no noise where σ = 0.

    $$
    F = x
    $$

    References:
      Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022),
      arXiv:2202.00512.
    """

    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return x

    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return prediction

    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return (z - expand(alpha, z) * prediction) / expand(sigma, z)

    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        return (sigma / alpha) ** 2


@dataclass(frozen=True)
class Velocity(Prediction):
    r"""The velocity on the circle α² + σ² = 1.

    $$
    v = \alpha\, \epsilon - \sigma\, x
    $$

    `to_data` and `to_noise` divide by α² + σ², so that they hold off the circle as well.

    References:
      Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022),
      arXiv:2202.00512.
    """

    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return expand(alpha, x) * eps - expand(sigma, x) * x

    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, z), expand(sigma, z)
        return (alpha * z - sigma * prediction) / (alpha**2 + sigma**2)

    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, z), expand(sigma, z)
        return (sigma * z + alpha * prediction) / (alpha**2 + sigma**2)

    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        return ((alpha**2 + sigma**2) / alpha) ** 2


@dataclass(frozen=True)
class Score(Prediction):
    r"""The score of q(z | x). It grows without bound as σ → 0.

    $$
    \nabla_z \log q(z \mid x) = -\epsilon / \sigma
    $$

    References:
      Song & Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution" (2019),
      arXiv:1907.05600.
    """

    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return -eps / expand(sigma, x)

    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return (z + expand(sigma, z) ** 2 * prediction) / expand(alpha, z)

    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return -expand(sigma, z) * prediction

    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        return 1 / sigma**2


@dataclass(frozen=True)
class Flow(Prediction):
    r"""The velocity dz/dt of rectified flow, where α = 1 − t and σ = t.

    $$
    u = \epsilon - x
    $$

    `to_data` and `to_noise` hold for every α and σ.

    References:
      Liu et al., "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
      Flow" (2022), arXiv:2209.03003.
      Lipman et al., "Flow Matching for Generative Modeling" (2022), arXiv:2210.02747.
    """

    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        return eps - x

    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, z), expand(sigma, z)
        return (z - sigma * prediction) / (alpha + sigma)

    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, z), expand(sigma, z)
        return (z + alpha * prediction) / (alpha + sigma)

    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        return ((alpha + sigma) / alpha) ** 2


@dataclass(frozen=True)
class Preconditioned(Prediction):
    r"""The network output of EDM: unit variance at every noise level.

    $$
    F = \frac{\sigma x / s - \alpha s\, \epsilon}{\sqrt{\alpha^2 s^2 + \sigma^2}}
    $$

    For α = 1 that is x = c_skip z + c_out F; here for any α. With α² + σ² = 1 and s = 1 it is −v.

    Args:
      data_std: s, the standard deviation of the data.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, table 1.
    """

    data_std: float = 0.5

    def _deviation(self, alpha: Array, sigma: Array) -> Array:
        return jnp.sqrt((alpha * self.data_std) ** 2 + sigma**2)

    def input_scale(self, alpha: Array, sigma: Array) -> Array:
        r"""The factor by which to multiply z before the network: unit variance at every level.

        $$
        c_\mathrm{in} = \frac{1}{\sqrt{\alpha^2 s^2 + \sigma^2}}
        $$

        Args:
          alpha: α, of any shape.
          sigma: σ, shaped like alpha.

        Returns:
          c_in, shaped like alpha.

        References:
          Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
          arXiv:2206.00364, table 1.
        """
        return 1 / self._deviation(alpha, sigma)

    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, x), expand(sigma, x)
        s = self.data_std
        return (sigma / s * x - alpha * s * eps) / self._deviation(alpha, sigma)

    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, z), expand(sigma, z)
        s, deviation = self.data_std, self._deviation(alpha, sigma)
        return alpha * (s / deviation) ** 2 * z + sigma * s / deviation * prediction

    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        alpha, sigma = expand(alpha, z), expand(sigma, z)
        deviation = self._deviation(alpha, sigma)
        return sigma / deviation**2 * z - alpha * self.data_std / deviation * prediction

    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        return (self._deviation(alpha, sigma) / (alpha * self.data_std)) ** 2


noise = Noise()
data = Data()
velocity = Velocity()
score = Score()
flow = Flow()
edm = Preconditioned()


def convert(
    prediction: Array,
    z: Array,
    alpha: ArrayLike,
    sigma: ArrayLike,
    *,
    source: Prediction,
    target: Prediction,
) -> Array:
    r"""A prediction of one target as one of another, at the same z.

    $$
    F' = a' \hat x + b' \hat\epsilon
    $$

    with the estimates x̂, ε̂ of the source and the target a' x + b' ε.

    Args:
      prediction: what `source` names, [B, ...].
      z: the network's input α x + σ ε, [B, ...].
      alpha: α, a scalar or one per example [B].
      sigma: σ, a scalar or one per example [B].
      source: the target of `prediction`, such as `noise`.
      target: the target to convert to, such as `velocity`.

    Returns:
      The prediction that `target` names, [B, ...].

    References:
      Kingma & Gao, "Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation"
      (2023), arXiv:2303.00848.
    """
    x = source.to_data(prediction, z, alpha, sigma)
    eps = source.to_noise(prediction, z, alpha, sigma)
    return target.of(x, eps, alpha, sigma)
