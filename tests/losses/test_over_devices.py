"""Losses that couple a batch: values and gradients on any number of devices are those of one."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.losses import (
    beta_tc,
    gan,
    info_vae,
    likelihoods,
    lookup_free,
    penalties,
    quantized,
    vae,
)
from tests.device_counts import DEVICES

pytestmark = pytest.mark.heavy

B, D = 16, 4
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, B, D)).astype(np.float32)
X[: B // 2] += 1  # so that no share of a device resembles the global batch
W = np.linspace(0.5, 1.5, D, dtype=np.float32)[None]
KEYS = jax.random.key_data(jax.random.split(jax.random.key(0), B))
BOOK = quantized.start_codebook(jnp.asarray(RNG.normal(size=(5, D)), jnp.float32))


def encode(x):
    return x, 0.3 * x - 1


def nll(mean, x):
    return likelihoods.gaussian_nll(mean, x)


def generate(w):
    """Images [B, 2, 2, D] from w [B, D]."""
    return (jnp.sin(w)[:, None, None] * jnp.arange(1.0, 5).reshape(1, 2, 2, 1)) ** 2


def losses(w, x, y, keys):
    """{name: one value per example, or of the batch}, with every default axis name."""
    a, b = x * w, y * w
    real, fake = a.sum(-1), b.sum(-1)
    least_squares = gan.relativistic_average(gan.least_squares(-1, 1))
    default = gan.relativistic_average()
    path = penalties.path_length(generate, a, keys, jnp.float32(1))
    held = penalties.lecam(real, fake, penalties.Anchors(jnp.float32(0.1), jnp.float32(0.2)))
    tc = [
        beta_tc.beta_tc(encode, lambda z: z, a, keys, nll=nll, dataset=100, weights=weights)
        for weights in (beta_tc.minibatch_stratified, beta_tc.minibatch_weighted)
    ]
    parts = info_vae.info_vae(encode, lambda z: z, a, keys, nll=nll)
    indices = quantized.vector_quantize(a, BOOK.vectors).indices
    book = quantized.update_codebook(BOOK, a, indices, decay=0.5)
    permuted = vae.permute_dimensions(a, keys)
    return {
        "bits": lookup_free.lookup_free_quantize(a).code_entropy,
        "permuted": permuted @ jnp.arange(1.0, D + 1),
        "free bits": vae.free_bits_of_batch(a**2, 1.5),
        "relativistic critic": default.discriminator(real, fake),
        "relativistic generator": default.generator(real, fake),
        "relativistic squares": least_squares.discriminator(real, fake),
        "feature matching": gan.feature_matching(a, b),
        "top-k": gan.top_k(fake, 5) * gan.hinge.generator(None, fake),
        "LeCam": held.penalty * 100,
        "anchors": jnp.stack(held.anchors),
        "path length": path.penalty,
        "path length's mean": path.mean,
        "optimal variance": likelihoods.optimal_variance(a, y),
        "sigma-VAE": likelihoods.gaussian_optimal_variance_nll(a, y),
        "information": tc[0].mutual_information,
        "correlation": tc[0].total_correlation,
        "dimension-wise": tc[0].dimension_wise_kl,
        "weighted TC": tc[1].loss(2.0, 3.0, 4.0),
        "MMD": info_vae.mmd(a, b + 3),
        "InfoVAE": parts.loss(0.5, 10.0),
        "codebook": book.vectors,
        "counts": book.counts,
        "perplexity": quantized.perplexity(indices, 5),
    }


def measure(w, x, y, keys, mean=lambda tree: tree):
    """Values, and the gradients by w of their means, averaged over devices by `mean`."""

    def means(w):
        return {name: value.mean() for name, value in losses(w, x, y, keys).items()}

    return losses(w, x, y, keys), mean(jax.jacrev(means)(w))


def on_devices(count, axis):
    def averaged(*arrays):
        return measure(*arrays, mean=lambda tree: jax.lax.pmean(tree, axis))

    split = [a.reshape(count, B // count, *a.shape[1:]) for a in (X, Y, KEYS)]
    mapped = jax.pmap(averaged, axis, in_axes=(None, 0, 0, 0), devices=jax.devices()[:count])
    values, slopes = mapped(W, *split)
    for name, expected in one()[0].items():
        if expected.shape == (B,):
            values[name] = values[name].ravel()
    return values, slopes


def sharded(count):
    mesh = Mesh(np.array(jax.devices()[:count]), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    batch = [jax.device_put(a, rows) for a in (X, Y, KEYS)]
    return jax.jit(measure)(jax.device_put(W, NamedSharding(mesh, PartitionSpec())), *batch)


@cache
def one():
    """Values and gradients on one device."""
    return jax.tree.map(np.asarray, jax.jit(measure)(W, X, Y, KEYS))


NO_GRADIENT = {"anchors", "path length's mean", "codebook", "counts", "perplexity"}
# Means of means, whose gradients would be right without the axis.
LINEAR = {"optimal variance", "permuted"}


def worst(ours, theirs):
    """The largest error in units of the largest number: values of every device at once."""
    return np.max(np.abs(np.asarray(ours) - theirs)) / max(np.max(np.abs(theirs)), 1e-30)


@pytest.mark.parametrize("count", DEVICES)
@pytest.mark.parametrize("layout", ["pmap", "sharded"])
def test_values_and_gradients_do_not_depend_on_the_number_of_devices(layout, count):
    values, slopes = sharded(count) if layout == "sharded" else on_devices(count, "data")
    assert values.keys() == one()[0].keys()
    errors = {name: worst(values[name], one()[0][name]) for name in values}
    assert max(errors.values()) < 1e-6, errors
    errors = {name: worst(slopes[name], one()[1][name]) for name in values}
    assert max(errors.values()) < 1e-6, errors


def test_every_loss_in_this_file_couples_the_batch():
    # Where the mapped axis has another name, each device treats its share as the global batch.
    values, slopes = on_devices(8, "other")
    for name, theirs in one()[0].items():
        assert worst(values[name], theirs) > 1e-3, name
        if name not in NO_GRADIENT | LINEAR:
            assert worst(slopes[name], one()[1][name]) > 1e-3, name
    for name in NO_GRADIENT:
        np.testing.assert_array_equal(one()[1][name], 0)


def test_a_function_compiled_outside_a_mapped_axis_is_recompiled_inside():
    perplexity = jax.jit(lambda indices: quantized.perplexity(indices, 5))
    indices = np.arange(4)
    assert perplexity(indices[:1]) == 1
    inside = jax.pmap(perplexity, "data", devices=jax.devices()[:4])(indices[:, None])
    np.testing.assert_allclose(inside, 4, rtol=1e-6)
