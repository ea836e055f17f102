"""What the functions of this room ask of a schedule, a prediction target and a network."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeAlias

from jax import Array
from jax.typing import ArrayLike

# (z [B, ...], t [B]) -> prediction, like z.
Predict: TypeAlias = Callable[[Array, Array], Array]
# The same, or the pair (prediction, learned variance), both like z.
PredictWithVariance: TypeAlias = Callable[[Array, Array], Array | tuple[Array, Array]]
# (low, high), or a function of x̂.
Clip: TypeAlias = tuple[ArrayLike, ArrayLike] | Callable[[Array], Array]


class Schedule(Protocol):
    r"""What a sampler needs of a noise schedule.

    $$
    z_t = \alpha(t)\, x + \sigma(t)\, \epsilon, \qquad \epsilon \sim \mathcal{N}(0, I)
    $$

    with t = 0 at the data and t = 1 at the noise. All functions take times of any shape and return
    arrays of that shape.
    """

    @abstractmethod
    def alpha(self, t: ArrayLike) -> Array:
        """α(t), the scale of the data.

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          α(t) >= 0, shaped like t.
        """

    @abstractmethod
    def sigma(self, t: ArrayLike) -> Array:
        """σ(t), the standard deviation of the noise.

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          σ(t) >= 0, shaped like t.
        """

    @abstractmethod
    def log_snr(self, t: ArrayLike) -> Array:
        r"""The logarithm of the signal-to-noise ratio, strictly decreasing in t.

        $$
        \lambda(t) = \log \frac{\alpha(t)^2}{\sigma(t)^2}
        $$

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          λ(t), shaped like t; ±∞ where σ or α is 0.
        """


class InvertibleSchedule(Schedule, Protocol):
    """A schedule whose log-SNR can be inverted: step grids, churn and likelihood need that."""

    @abstractmethod
    def time(self, log_snr: ArrayLike) -> Array:
        """The inverse of `log_snr`.

        Args:
          log_snr: λ, of any shape.

        Returns:
          The t at which λ(t) = log_snr, shaped like it.
        """


class DifferentiableSchedule(InvertibleSchedule, Protocol):
    """A schedule with dλ/dt as well, as all of `schedules`: variational losses need that."""

    @abstractmethod
    def log_snr_derivative(self, t: ArrayLike) -> Array:
        """dλ/dt, negative.

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          dλ/dt, shaped like t.
        """


class Target(Protocol):
    """What a sampler needs of a prediction target."""

    @abstractmethod
    def to_data(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        """The estimate x̂ that a prediction at z implies.

        Args:
          prediction: [B, ...], what the network returned.
          z: [B, ...], the network's input α x + σ ε.
          alpha: α, a scalar or one per example [B].
          sigma: σ, a scalar or one per example [B].

        Returns:
          x̂ [B, ...].
        """


class Prediction(Target, Protocol):
    """A prediction target a x + b ε, with a and b functions of α and σ: all of `predictions`."""

    @abstractmethod
    def of(self, x: Array, eps: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        """The target: what a perfect network would output.

        Args:
          x: data, [B, ...].
          eps: noise ε, [B, ...].
          alpha: α, a scalar or one per example [B].
          sigma: σ, a scalar or one per example [B].

        Returns:
          The target, [B, ...].
        """

    @abstractmethod
    def to_noise(self, prediction: Array, z: Array, alpha: ArrayLike, sigma: ArrayLike) -> Array:
        """The estimate ε̂ that a prediction at z implies.

        Args:
          prediction: [B, ...], what the network returned.
          z: [B, ...], the network's input α x + σ ε.
          alpha: α, a scalar or one per example [B].
          sigma: σ, a scalar or one per example [B].

        Returns:
          ε̂ [B, ...].
        """

    @abstractmethod
    def error_scale(self, alpha: Array, sigma: Array) -> Array:
        """Squared error of this prediction over that of the noise it implies, at the same z.

        Args:
          alpha: α, of any shape.
          sigma: σ, shaped like alpha.

        Returns:
          ‖error of the prediction‖² / ‖error of ε̂‖², shaped like alpha.
        """
