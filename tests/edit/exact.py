"""Data with a posterior in closed form, their ideal denoisers, and the exact moments of solvers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.diffusion import predictions, sampling_loop, schedules, steps
from genjax.edit.operator import Operator

SHAPE, SIZE = (4, 4, 1), 16

_places = np.stack(np.meshgrid(range(4), range(4), indexing="ij"), -1).reshape(SIZE, 2)
DISTANCES = np.linalg.norm(_places[:, None] - _places, axis=-1)


def flat(x):
    return x.reshape(len(x), -1)


class Gaussian(NamedTuple):
    """N(mean, covariance) over images of SHAPE, flat."""

    mean: np.ndarray
    covariance: np.ndarray

    def denoise(self, z, alpha, sigma):
        """E[x | z] for a batch [B, *SHAPE] and one time."""
        values, vectors = np.linalg.eigh(self.covariance)
        gain = (alpha * values / (alpha**2 * values + sigma**2))[None]
        z = (flat(z) - (alpha * self.mean)[None]) @ vectors
        return (self.mean[None] + (gain * z) @ vectors.T).reshape(-1, *SHAPE)

    def posterior(self, matrix, y, noise):
        """Mean and covariance of x given y = matrix x + noise."""
        total = matrix @ self.covariance @ matrix.T + noise**2 * np.eye(len(matrix))
        gain = self.covariance @ matrix.T @ np.linalg.pinv(total)
        return (
            self.mean + gain @ (y - matrix @ self.mean),
            self.covariance - gain @ matrix @ self.covariance,
        )

    def log_evidence(self, matrix, y, noise):
        total = matrix @ self.covariance @ matrix.T + noise**2 * np.eye(len(matrix))
        r = y - matrix @ self.mean
        return -0.5 * (r @ np.linalg.solve(total, r) + np.linalg.slogdet(total)[1])


class Mixture(NamedTuple):
    """Gaussians with the same weight and one isotropic variance: means [K, SIZE]."""

    means: np.ndarray
    variance: float

    def parts(self):
        return [Gaussian(mean, self.variance * np.eye(SIZE)) for mean in self.means]

    def denoise(self, z, alpha, sigma):
        total = alpha**2 * self.variance + sigma**2
        gaps = flat(z)[:, None] - (alpha * self.means)[None]
        share = jax.nn.softmax(-jnp.sum(gaps**2, -1) / (2 * total), -1)
        centres = self.means[None] + alpha * self.variance / total * gaps
        return jnp.einsum("bk,bkd->bd", share, centres).reshape(-1, *SHAPE)

    def posterior(self, matrix, y, noise):
        logs = np.array([part.log_evidence(matrix, y, noise) for part in self.parts()])
        share = np.exp(logs - logs.max())
        share /= share.sum()
        moments = [part.posterior(matrix, y, noise) for part in self.parts()]
        mean = sum(s * m for s, (m, _) in zip(share, moments, strict=True))
        return mean, sum(
            s * (c + np.outer(m - mean, m - mean)) for s, (m, c) in zip(share, moments, strict=True)
        )


SMOOTH = Gaussian(np.linspace(-0.5, 0.5, SIZE), 0.3 * np.exp(-DISTANCES / 2))
WHITE = Gaussian(np.linspace(-0.5, 0.5, SIZE), np.eye(SIZE))
MODES = Mixture(np.stack([np.linspace(-0.6, 0.6, SIZE), 0.5 * np.ones(SIZE)]), 0.1)

_kernel = np.exp(-(DISTANCES**2) / (2 * 0.6**2))
MATRICES = {
    "mask": np.eye(SIZE)[:8],
    "downsampling": np.kron(np.kron(np.eye(2), [[1, 1]]), np.kron(np.eye(2), [[1, 1]])) / 4,
    "blur": _kernel / _kernel.sum(1, keepdims=True),
}
KEEP = jnp.reshape((jnp.arange(SIZE) < 8).astype(float), SHAPE)
GRAMS = {"mask": 1.0, "downsampling": 0.25, "blur": None}


def mask(keep):
    """As masks are: y like x, 0 where hidden; keep [*SHAPE]."""
    return Operator(lambda x: x * keep[None], SHAPE, gram=1.0)


def operator(name):
    matrix = jnp.asarray(MATRICES[name], float)
    if name == "mask":
        return mask(KEEP)
    return Operator(lambda x: flat(x) @ matrix.T, SHAPE, gram=GRAMS[name])


def observations(data, name, noise, count, seed=0):
    """y of images of the data, [count, rows of the matrix]."""
    rng = np.random.default_rng(seed)
    data = data.parts()[0] if isinstance(data, Mixture) else data
    # By the symmetric root, which is unique: the eigenvectors of one eigenvalue are not.
    values, vectors = np.linalg.eigh(data.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    x = data.mean + rng.normal(size=(count, SIZE)) @ root
    return x @ MATRICES[name].T + noise * rng.normal(size=(count, len(MATRICES[name])))


def observation(data, name, noise, seed=0):
    return observations(data, name, noise, 1, seed)[0]


def observed(ys, name):
    """Observations [n, rows of the matrix] as the operator returns them."""
    if name == "mask":
        ys = np.pad(ys, ((0, 0), (0, SIZE - ys.shape[1]))).reshape(-1, *SHAPE)
    return jnp.asarray(ys, float)


def batch(y, name, count):
    """The same observation as `count` examples."""
    return observed(np.broadcast_to(y, (count, len(y))), name)


def predict(data, schedule=None, target=predictions.velocity):
    schedule = schedule or schedules.Cosine()

    def ideal(z, t):
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        x = data.denoise(z, alpha, sigma)
        return target.of(x, (z - alpha * x) / sigma, alpha, sigma)

    return ideal


def solve(solver, data, observed, key, y, noise=0.0, n=100, **options):
    """A solver with the ideal denoiser of the data, on the cosine schedule.

    What is observed is an operator, or the name of one.
    """
    target = options.pop("target", predictions.velocity)
    schedule = options.pop("schedule", schedules.Cosine())
    return solver(
        predict(data, schedule, target),
        key,
        y,
        operator(observed) if isinstance(observed, str) else observed,
        schedule=schedule,
        target=target,
        noise=noise,
        **{"steps": steps.linear(n), **options},
    )


def moments(monkeypatch, data, name, draws, run):
    """Exact moments of a solver that is affine in y and in its random numbers.

    The first example has y of the data's mean, and draws zeros. Each other one has 1 more for a
    single element of a single draw, so that the covariance is a sum of outer products, or for a
    single element of y, so that the mean for every y follows. `run(y)` returns the examples.

    Returns:
      The mean for the first y, its slope by y [rows of the matrix, SIZE], and the covariance.
    """
    units = draws * SIZE

    def unit(key, index, shape, dtype):
        own = index * SIZE + jnp.arange(SIZE) + 1
        return jax.vmap(lambda i: i == own)(jnp.arange(shape[0])).astype(dtype).reshape(shape)

    monkeypatch.setattr(sampling_loop, "_normal", unit)
    matrix = MATRICES[name]
    rows = len(matrix)
    y = matrix @ data.mean + np.concatenate([np.zeros((units + 1, rows)), np.eye(rows)])
    x = np.asarray(flat(run(observed(y, name))), np.float64)
    gaps = x[1:] - x[0]
    drawn, slope = gaps[:units], gaps[units:]
    return x[0], slope, drawn.T @ drawn


def bias(found, data, name, noise):
    """Of `moments`: (error of the mean in standard deviations of the data, variance ratio).

    The error is its root mean square over the pixels and over the observations of the data, and
    the variance that of the samples over the posterior's.
    """
    mean, slope, covariance = found
    matrix = MATRICES[name]
    spread = matrix @ data.covariance @ matrix.T + noise**2 * np.eye(len(matrix))
    right, right_covariance = data.posterior(matrix, matrix @ data.mean, noise)
    gain = data.covariance @ matrix.T @ np.linalg.pinv(spread)
    slip = slope - gain.T
    squares = np.sum((mean - right) ** 2) + np.trace(slip.T @ spread @ slip)
    return (
        np.sqrt(squares / np.trace(data.covariance)),
        np.trace(covariance) / np.trace(right_covariance),
    )
