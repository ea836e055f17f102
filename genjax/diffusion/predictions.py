"""What a network may predict of z = α·x + σ·ε, as values, and the way from each to all others."""

from dataclasses import dataclass

import jax.numpy as jnp


def _expand(scale, z):
    """scale as a scalar or [B], shaped to multiply z [B, ...]."""
    scale = jnp.asarray(scale)
    if scale.ndim and scale.shape != z.shape[: scale.ndim]:
        raise ValueError(
            f"alpha and sigma must be scalars or one per example: {scale.shape} for z {z.shape}"
        )
    return scale.reshape(scale.shape + (1,) * (z.ndim - scale.ndim))


class Prediction:
    """A linear target a·x + b·ε; x, eps, z are [B, ...], alpha and sigma [B] or scalars."""

    def of(self, x, eps, alpha, sigma):
        """The target: what a perfect network would output."""
        raise NotImplementedError

    def to_data(self, prediction, z, alpha, sigma):
        """The estimate of x that a prediction at z implies."""
        raise NotImplementedError

    def to_noise(self, prediction, z, alpha, sigma):
        """The estimate of ε that a prediction at z implies."""
        raise NotImplementedError

    def error_scale(self, alpha, sigma):
        """‖error of this prediction‖² / ‖error of the noise it implies‖², at the same z."""
        raise NotImplementedError


@dataclass(frozen=True)
class Noise(Prediction):
    """ε. Ho et al. 2020. It says nothing about x where α = 0."""

    def of(self, x, eps, alpha, sigma):
        return eps

    def to_data(self, prediction, z, alpha, sigma):
        return (z - _expand(sigma, z) * prediction) / _expand(alpha, z)

    def to_noise(self, prediction, z, alpha, sigma):
        return prediction

    def error_scale(self, alpha, sigma):
        return jnp.ones_like(alpha)


@dataclass(frozen=True)
class Data(Prediction):
    """x. Salimans & Ho 2022. It says nothing about ε where σ = 0."""

    def of(self, x, eps, alpha, sigma):
        return x

    def to_data(self, prediction, z, alpha, sigma):
        return prediction

    def to_noise(self, prediction, z, alpha, sigma):
        return (z - _expand(alpha, z) * prediction) / _expand(sigma, z)

    def error_scale(self, alpha, sigma):
        return (sigma / alpha) ** 2


@dataclass(frozen=True)
class Velocity(Prediction):
    """v = α·ε − σ·x. Salimans & Ho 2022, "Progressive Distillation".

    The ways back divide by α² + σ², so that they hold off the circle α² + σ² = 1 as well.
    """

    def of(self, x, eps, alpha, sigma):
        return _expand(alpha, x) * eps - _expand(sigma, x) * x

    def to_data(self, prediction, z, alpha, sigma):
        alpha, sigma = _expand(alpha, z), _expand(sigma, z)
        return (alpha * z - sigma * prediction) / (alpha**2 + sigma**2)

    def to_noise(self, prediction, z, alpha, sigma):
        alpha, sigma = _expand(alpha, z), _expand(sigma, z)
        return (sigma * z + alpha * prediction) / (alpha**2 + sigma**2)

    def error_scale(self, alpha, sigma):
        return ((alpha**2 + sigma**2) / alpha) ** 2


@dataclass(frozen=True)
class Score(Prediction):
    """∇_z log q(z|x) = −ε / σ. Song & Ermon 2019; its target grows without bound as σ → 0."""

    def of(self, x, eps, alpha, sigma):
        return -eps / _expand(sigma, x)

    def to_data(self, prediction, z, alpha, sigma):
        return (z + _expand(sigma, z) ** 2 * prediction) / _expand(alpha, z)

    def to_noise(self, prediction, z, alpha, sigma):
        return -_expand(sigma, z) * prediction

    def error_scale(self, alpha, sigma):
        return 1 / sigma**2


@dataclass(frozen=True)
class Flow(Prediction):
    """u = ε − x, the velocity dz/dt of rectified flow (α = 1 − t, σ = t).

    Liu et al. 2022; Lipman et al. 2022. The ways back hold for every α and σ.
    """

    def of(self, x, eps, alpha, sigma):
        return eps - x

    def to_data(self, prediction, z, alpha, sigma):
        alpha, sigma = _expand(alpha, z), _expand(sigma, z)
        return (z - sigma * prediction) / (alpha + sigma)

    def to_noise(self, prediction, z, alpha, sigma):
        alpha, sigma = _expand(alpha, z), _expand(sigma, z)
        return (z + alpha * prediction) / (alpha + sigma)

    def error_scale(self, alpha, sigma):
        return ((alpha + sigma) / alpha) ** 2


@dataclass(frozen=True)
class Preconditioned(Prediction):
    """F = (σ·x/s − α·s·ε) / √(α²s² + σ²), s = data_std: unit variance at every noise level.

    Karras et al. 2022 (EDM), table 1, for α = 1: x = c_skip·z + c_out·F; here for any α. With
    α² + σ² = 1 and s = 1 it is −v.
    """

    data_std: float = 0.5

    def _deviation(self, alpha, sigma):
        return jnp.sqrt((alpha * self.data_std) ** 2 + sigma**2)

    def input_scale(self, alpha, sigma):
        """c_in = 1 / √(α²s² + σ²): what to multiply z by before the network, shaped like alpha."""
        return 1 / self._deviation(alpha, sigma)

    def of(self, x, eps, alpha, sigma):
        alpha, sigma = _expand(alpha, x), _expand(sigma, x)
        s = self.data_std
        return (sigma / s * x - alpha * s * eps) / self._deviation(alpha, sigma)

    def to_data(self, prediction, z, alpha, sigma):
        alpha, sigma = _expand(alpha, z), _expand(sigma, z)
        s, deviation = self.data_std, self._deviation(alpha, sigma)
        return alpha * (s / deviation) ** 2 * z + sigma * s / deviation * prediction

    def to_noise(self, prediction, z, alpha, sigma):
        alpha, sigma = _expand(alpha, z), _expand(sigma, z)
        deviation = self._deviation(alpha, sigma)
        return sigma / deviation**2 * z - alpha * self.data_std / deviation * prediction

    def error_scale(self, alpha, sigma):
        return (self._deviation(alpha, sigma) / (alpha * self.data_std)) ** 2


noise = Noise()
data = Data()
velocity = Velocity()
score = Score()
flow = Flow()
edm = Preconditioned()


def convert(prediction, z, alpha, sigma, *, source: Prediction, target: Prediction):
    """A prediction of `source` at z [B, ...] as one of `target`: a·x̂ + b·ε̂ of its estimates.

    Kingma & Gao 2023, "Understanding Diffusion Objectives as the ELBO", list the pairs.
    """
    x = source.to_data(prediction, z, alpha, sigma)
    eps = source.to_noise(prediction, z, alpha, sigma)
    return target.of(x, eps, alpha, sigma)
