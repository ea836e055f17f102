r"""A mixture of Gaussians fitted to an encoder's codes: what to decode new images from.

An autoencoder does not ask its codes to fill any distribution. A density that is fitted to them
afterwards makes its decoder a generative model:

$$
p(c) = \sum_{k=1}^K \pi_k\, \mathcal N(c;\, \mu_k,\, \Sigma_k)
$$

with full covariances, and as many components as make held-out codes the likeliest.

References:
  Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv:1903.12436,
  section 4.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import keys
from genjax.data.errors import DataError
from genjax.data.images import Images
from genjax.errors import ConfigError, GenjaxError
from genjax.run.family import Family
from genjax.train import weights
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)

NAME = "mixture.safetensors"  # in an export; in a run its step is in the name
COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # tried in turn
CODES = 10_000  # the most that are fitted to
LEAST = 20  # images
CHUNK = 100  # images that are encoded together
MAX_BYTES = 256 << 20  # of a file: 64 covariances of 1,000 numbers
WORSE = 2  # numbers of components in a row without a better likelihood, after which to stop


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians.

    Attributes:
      weights: π, [K].
      means: μ, [K, d].
      factors: the Cholesky factors L of the covariances L Lᵀ, [K, d, d].
      tried: {components: mean log-likelihood of a held-out code, nats}.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    tried: dict[int, float]

    def draw(self, key: jax.Array, n: int) -> jax.Array:
        """Draws codes.

        Args:
          key: one PRNG key.
          n: how many.

        Returns:
          float32 [n, d]; code i is a function of the key and i alone.
        """
        parts = (self.weights, self.means, self.factors)
        return _draw(key, n, *(jnp.asarray(x, jnp.float32) for x in parts))

    def log_density(self, codes: jax.Array) -> jax.Array:
        r"""The logarithm of the density of codes.

        $$
        \log \sum_k \pi_k\, \mathcal N(c;\, \mu_k,\, \Sigma_k)
        $$

        Args:
          codes: [n, d].

        Returns:
          [n], nats.
        """
        weights, means, factors = (
            jnp.asarray(x, jnp.float32) for x in (self.weights, self.means, self.factors)
        )
        apart = codes[:, None] - means[None]  # [n, K, d]
        solve = partial(jax.scipy.linalg.solve_triangular, lower=True)
        white = jax.vmap(lambda factor, x: solve(factor, x.T).T, (0, 1), 1)(factors, apart)
        size = jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)).sum(1)
        constant = 0.5 * means.shape[1] * jnp.log(2 * jnp.pi)
        each = (jnp.log(weights) - size)[None] - constant - 0.5 * (white**2).sum(-1)
        return jax.nn.logsumexp(each, axis=1)

    def __str__(self) -> str:
        best = len(self.weights)
        each = ", ".join(f"{k}: {value:.2f}" for k, value in self.tried.items())
        return f"mixture of {best} Gaussians; nats of a held-out code by their number: {each}"


@partial(jax.jit, static_argnums=1)
def _draw(
    key: jax.Array, n: int, weights: jax.Array, means: jax.Array, factors: jax.Array
) -> jax.Array:
    pick, noise = keys.split(keys.per_example(key, n), 2)
    steps = jnp.cumsum(weights)
    which = jnp.searchsorted(steps, keys.uniform(pick, (n,)) * steps[-1], side="right")

    def code(each: tuple[jax.Array, jax.Array]) -> jax.Array:
        k, z = each
        return means[k] + factors[k] @ z

    # One at a time: the rounding of a product of matrices depends on n.
    picked = jnp.minimum(which, len(weights) - 1)
    return jax.lax.map(code, (picked, keys.normal(noise, (n, means.shape[1]))))


def fit(codes: np.ndarray, seed: int = 0) -> Mixture:
    """Fits a mixture to codes by expectation maximisation; every tenth code is held out.

    Args:
      codes: [n, d], in random order.
      seed: of the initial components.

    Returns:
      The mixture of as many components as make the held-out codes the likeliest.

    Raises:
      ConfigError: where there are too few codes, or some are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    if len(codes) < LEAST or not np.isfinite(codes).all():
        raise ConfigError(
            f"a mixture needs {LEAST} finite codes, and there are "
            f"{int(np.isfinite(codes).all(1).sum())}"
        )
    codes = np.asarray(codes, np.float64)
    mean, scale = codes.mean(0), np.maximum(codes.std(0), 1e-12)
    held_out = np.arange(len(codes)) % 10 == 0
    shown, hidden = (codes[~held_out] - mean) / scale, (codes[held_out] - mean) / scale
    found, tried = {}, {}
    # More threads would wait for each other most of the time, and round by their number.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # judged by the held-out codes
        for k in COMPONENTS:
            if k > 1 and k * (codes.shape[1] + 1) > len(shown):
                break
            found[k] = GaussianMixture(k, max_iter=200, random_state=seed).fit(shown)
            tried[k] = float(found[k].score(hidden) - np.log(scale).sum())
            best = max(tried, key=tried.__getitem__)
            if list(tried).index(best) < len(tried) - WORSE:
                break
    chosen: Any = found[best]
    factors = np.linalg.cholesky(chosen.covariances_) * scale[:, None]
    return Mixture(chosen.weights_, chosen.means_ * scale + mean, factors, tried)


def fit_to_images(family: Family, state: TrainState, images: Images) -> Mixture:
    """Fits a mixture to the codes of images, and logs how many components that took.

    Args:
      family: the family.
      state: the trained state.
      images: to encode; `CODES` of them, chosen at random, where there are more.

    Returns:
      The mixture.

    Raises:
      ConfigError: where the family has no encoder to vectors, or there are too few images.
    """
    check(family)
    encode, n = jax.jit(family.encode), min(CODES, len(images))  # type: ignore[arg-type]
    codes = [
        np.asarray(encode(state, images.batch(0, b, CHUNK)["image"])) for b in range(-(-n // CHUNK))
    ]
    mixture = fit(np.concatenate(codes)[:n])
    logger.info("codes of %s images: %s", f"{n:,}", mixture)
    return mixture


def check(family: Family) -> None:
    """Checks that a mixture can stand for a family's latents.

    Args:
      family: the family.

    Raises:
      ConfigError: where it has no encoder, or not to vectors, or draws classes.
    """
    why = None
    if family.encode is None or family.latent is None:
        why = "it has no encoder"
    elif family.classes is not None:
        why = "it draws classes, which a mixture does not know"
    elif len(family.latent) != 1:
        why = "its codes are no vectors"
    if why:
        raise ConfigError(f"--prior mixture is not for this family: {why}")


def save(path: Path, mixture: Mixture, state: TrainState) -> None:
    """Writes a mixture beside the weights that it belongs to.

    Args:
      path: the file.
      mixture: to write.
      state: the trained state whose codes it was fitted to.

    Raises:
      WeightsError: where the file cannot be written.
    """
    tree = {name: np.asarray(getattr(mixture, name)) for name in ("weights", "means", "factors")}
    tree["tried"] = np.array(list(mixture.tried.items()), np.float64)
    about = {"step": str(int(state.step)), "sha256": digest(state), "mixture": _digest(tree)}
    weights.save(path, tree, about)


def load(path: Path, family: Family, state: TrainState) -> Mixture:
    """Reads a mixture that may be a stranger's.

    Args:
      path: the file.
      family: the family.
      state: the trained state that it must belong to.

    Returns:
      The mixture.

    Raises:
      ConfigError: where it belongs to other weights, or is damaged.
      WeightsError: where the file cannot be read.
    """
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is over {MAX_BYTES >> 20} MiB")
    tree, about = weights.load_nested(path)
    assert family.latent is not None
    if not _fits(tree, family.latent[0]) or about.get("mixture") != _digest(tree):
        raise ConfigError(f"{path} is damaged")
    if about.get("sha256") != digest(state):
        raise ConfigError(f"{path} belongs to other weights")
    tried = {int(k): float(value) for k, value in tree.pop("tried")}
    return Mixture(**tree, tried=tried)


def _fits(tree: dict[str, Any], d: int) -> bool:
    """Whether arrays are those of a mixture of codes of d numbers."""
    k = len(tree["weights"]) if isinstance(tree.get("weights"), np.ndarray) else 0
    shapes = {"weights": (k,), "means": (k, d), "factors": (k, d, d)}
    return (
        k > 0
        and tree.keys() == {*shapes, "tried"}
        and all(isinstance(x, np.ndarray) and x.dtype == np.float64 for x in tree.values())
        and all(tree[name].shape == shape for name, shape in shapes.items())
        and tree["tried"].shape[1:] == (2,)
        and all(np.isfinite(x).all() for x in tree.values())
        and (tree["weights"] >= 0).all()
        and abs(tree["weights"].sum() - 1) < 1e-6
    )


def digest(state: TrainState) -> str:
    """The sha256 of the weights that a state samples with; an export's are the same.

    Args:
      state: the trained state.

    Returns:
      64 hexadecimal digits.
    """
    return _digest({"params": state.averaged(), "variables": state.variables})


def _digest(tree: Any) -> str:
    found = hashlib.sha256()
    for name, leaf in sorted(weights.named(tree).items()):
        array = np.ascontiguousarray(leaf)
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def to_export(
    directory: Path, family: Family, state: TrainState, mixture: Callable[[], Mixture]
) -> Mixture | None:
    """The mixture that goes with a run's export, which is to sample without the images.

    Args:
      directory: the run's.
      family: the family.
      state: the trained state.
      mixture: returns the run's.

    Returns:
      The mixture where the family samples from one or one was fitted; None where there is none, or
      the images to fit it to are gone.
    """
    if not family.mixture and not _path(directory, int(state.step)).is_file():
        return None
    try:
        return mixture()
    except DataError as error:
        logger.warning("no mixture is exported, `sample` needs --prior gaussian: %s", error)
        return None


def _path(directory: Path, step: int) -> Path:
    return directory / f"mixture_{step}.safetensors"


def kept(
    directory: Path,
    exported: bool,
    family: Family,
    state: TrainState,
    images: Callable[[], Images],
) -> Mixture:
    """The mixture of a run or an export; a run's is fitted where there is none yet, and kept.

    Args:
      directory: the run's, or the export's.
      exported: whether it is an export.
      family: the family.
      state: the trained state.
      images: returns those that the family was trained on.

    Returns:
      The mixture.

    Raises:
      ConfigError: where an export has none that can be used, or none can be fitted.
    """
    check(family)
    path = directory / NAME if exported else _path(directory, int(state.step))
    if os.path.lexists(path):
        try:
            return load(path, family, state)
        except GenjaxError as error:
            if exported:
                raise
            logger.warning("%s: a mixture is fitted again", error)
    elif exported:
        raise ConfigError(
            f"{directory} was exported without a mixture: give --prior gaussian, or export the run "
            "again after its `sample --prior mixture`"
        )
    found = fit_to_images(family, state, images())
    try:
        save(path, found, state)
    except weights.WeightsError as error:  # a run that may only be read
        logger.warning("%s", error)
    return found
