"""Vector quantisation and finite scalars: brute force, straight-through gradients, averages."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import quantized

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((8, 3, 2, 4)).astype(np.float32)
BOOK = RNG.standard_normal((6, 4)).astype(np.float32)
quantize = jax.jit(quantized.vector_quantize)
update = jax.jit(quantized.update_codebook, static_argnames="decay")


def nearest(z, book):
    return np.argmin(np.sum((np.float64(z)[..., None, :] - np.float64(book)) ** 2, -1), -1)


def test_codes_and_losses_are_the_brute_force_reference():
    q = quantize(Z, BOOK)
    indices = nearest(Z, BOOK)
    squares = np.sum((np.float64(Z) - BOOK[indices]) ** 2, (1, 2, 3))
    np.testing.assert_array_equal(q.indices, indices)
    np.testing.assert_allclose(q.codes, BOOK[indices], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(q.codebook_loss, squares, rtol=1e-5)
    np.testing.assert_allclose(q.commitment, squares, rtol=1e-5)
    np.testing.assert_allclose(q.loss(), 1.25 * squares, rtol=1e-5)
    np.testing.assert_allclose(q.loss(beta=2.0), 3 * squares, rtol=1e-5)


def test_the_gradient_is_straight_through_and_each_loss_trains_its_own_side():
    downstream = RNG.standard_normal(Z.shape).astype(np.float32)
    parts = {
        "decoder": lambda q: jnp.sum(q.codes * downstream),
        "codebook": lambda q: q.codebook_loss.sum(),
        "commitment": lambda q: q.commitment.sum(),
    }
    slopes = {
        name: jax.jit(jax.grad(lambda z, b, f=f: f(quantized.vector_quantize(z, b)), (0, 1)))(
            Z, BOOK
        )
        for name, f in parts.items()
    }
    chosen = nearest(Z, BOOK)
    difference = np.float64(Z) - BOOK[chosen]
    np.testing.assert_array_equal(slopes["decoder"][0], downstream)
    np.testing.assert_array_equal(slopes["decoder"][1], 0)
    np.testing.assert_array_equal(slopes["codebook"][0], 0)
    by_vector = [-2 * difference[chosen == k].sum(0) for k in range(len(BOOK))]
    np.testing.assert_allclose(slopes["codebook"][1], by_vector, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes["commitment"][0], 2 * difference, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(slopes["commitment"][1], 0)


@pytest.mark.heavy
def test_residual_codes_are_the_sum_of_each_levels_nearest_vector():
    books = (
        RNG.standard_normal((3, 6, 4)).astype(np.float32) * np.float32([1, 0.5, 0.2])[:, None, None]
    )
    residual, total, squares = np.float64(Z), 0.0, 0.0
    found = jax.jit(quantized.residual_quantize)(Z, books)
    for level, book in enumerate(books):
        indices = nearest(residual, book)
        np.testing.assert_array_equal(found.indices[level], indices)
        np.testing.assert_allclose(found.residuals[level], residual, rtol=1e-5, atol=1e-6)
        residual, total = residual - book[indices], total + book[indices]
        squares = squares + np.sum(residual**2, (1, 2, 3))
    np.testing.assert_allclose(found.codes, total, rtol=1e-5, atol=1e-6)
    for loss in (found.codebook_loss, found.commitment):
        np.testing.assert_allclose(loss, squares, rtol=1e-5)
    downstream = RNG.standard_normal(Z.shape).astype(np.float32)
    slope = jax.jit(
        jax.grad(lambda z, b: (quantized.residual_quantize(z, b).codes * downstream).sum(), (0, 1))
    )(Z, books)
    np.testing.assert_array_equal(slope[0], downstream)
    np.testing.assert_array_equal(slope[1], 0)
    # The commitment of every level pulls z: 2 Σ (z − codes so far).
    pull = jax.jit(jax.grad(lambda z: quantized.residual_quantize(z, books).commitment.sum()))(Z)
    levels = [books[level][found.indices[level]] for level in range(3)]
    expected = sum(2 * (np.float64(Z) - sum(levels[: i + 1])) for i in range(3))
    np.testing.assert_allclose(pull, expected, rtol=1e-4, atol=1e-5)
    one = quantized.residual_quantize(Z, BOOK[None])
    plain = quantize(Z, BOOK)
    np.testing.assert_array_equal(one.codes, plain.codes)
    np.testing.assert_array_equal(one.commitment, plain.commitment)
    with pytest.raises(ValueError, match=r"give codebooks \[L, K, D\]"):
        quantized.residual_quantize(Z, BOOK)


def test_the_moving_average_matches_the_paper_by_explicit_loops():
    book = quantized.start_codebook(jnp.asarray(BOOK))
    counts, sums = np.ones(6), np.float64(BOOK)
    for _ in range(3):
        z = RNG.standard_normal(Z.shape).astype(np.float32)
        indices = nearest(z, book.vectors)
        book = update(book, z, indices, decay=0.9)
        for k in range(6):
            own = np.float64(z[indices == k])
            counts[k] = 0.9 * counts[k] + 0.1 * len(own)
            sums[k] = 0.9 * sums[k] + 0.1 * own.sum(0)
        np.testing.assert_allclose(book.counts, counts, rtol=1e-5)
        np.testing.assert_allclose(book.vectors, sums / counts[:, None], rtol=1e-4, atol=1e-5)


def test_averaged_vectors_converge_to_cluster_means_and_an_unused_one_stays():
    centres = np.array([[5.0, 0], [-5, 0], [0, 7]], np.float32)
    z = (centres[:, None] + 0.1 * RNG.standard_normal((3, 50, 2))).astype(np.float32)
    start = np.array([[4.0, 1], [-4, -1], [1, 5], [99, 99]], np.float32)

    def step(book, _):
        indices = quantized.vector_quantize(z, book.vectors).indices
        return quantized.update_codebook(book, z, indices, decay=0.8), None

    # .8^1000 is no float32: an unused count dies out altogether.
    book, _ = jax.lax.scan(step, quantized.start_codebook(start), length=1000)
    np.testing.assert_allclose(book.vectors[:3], z.mean(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(book.vectors[3], start[3], rtol=1e-3)


def test_only_vectors_whose_count_is_too_small_to_divide_by_stay():
    counts = jnp.array([1.0, 1e-3, 1e-18, 1e-21, 0])
    vectors = jnp.arange(5.0)[:, None]
    mean = vectors + 10
    book = quantized.Codebook(vectors, counts, counts[:, None] * mean)
    z, indices = jnp.full((1, 1, 1), 12.0), jnp.zeros((1, 1), int)
    moved = quantized.update_codebook(book, z, indices, decay=0.5)
    expected = [11, 11, 12, 3, 4]
    np.testing.assert_allclose(moved.vectors[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(moved.counts, [1, 5e-4, 5e-19, 5e-22, 0], rtol=1e-6)


def test_the_average_on_eight_devices_is_that_of_the_global_batch():
    book, indices = quantized.start_codebook(jnp.asarray(BOOK)), nearest(Z, BOOK)
    shards = jax.pmap(
        partial(quantized.update_codebook, axis_name="data"), "data", in_axes=(None, 0, 0)
    )(book, Z[:, None], indices[:, None])
    full = update(book, Z, indices)
    for ours, theirs in zip(shards, full, strict=True):
        np.testing.assert_allclose(ours[3], theirs, rtol=1e-5, atol=1e-6)


def test_the_average_has_no_gradient():
    book, indices = quantized.start_codebook(jnp.asarray(BOOK)), nearest(Z, BOOK)
    slope = jax.grad(lambda z: quantized.update_codebook(book, z, indices).vectors.sum())(Z)
    np.testing.assert_array_equal(slope, 0)


LOTS = jax.random.split(jax.random.key(1), 8)
USED = np.array([40.0, 0.5, 3.0, 1.0, 0.0, 100.0], np.float32)
WORN = quantized.Codebook(jnp.asarray(BOOK), jnp.asarray(USED), USED[:, None] * jnp.asarray(BOOK))
restart = jax.jit(quantized.restart_codes, static_argnames="share")


def test_unused_vectors_move_to_different_codes_of_the_batch_and_count_as_even_use():
    again = restart(WORN, Z, LOTS, share=0.05)  # of a mean count of 24.08: below 1.204
    dead, even = np.array([1, 3, 4]), USED.mean()
    alive = np.array([0, 2, 5])
    for ours, theirs in zip(again, WORN, strict=True):
        np.testing.assert_array_equal(ours[alive], theirs[alive])
    rows, lots = Z.reshape(-1, 4), jax.vmap(lambda key: jax.random.uniform(key, (3, 2)))(LOTS)
    drawn = rows[np.argsort(-np.asarray(lots).ravel())[dead]]  # vector k takes the k-th of the lots
    np.testing.assert_array_equal(again.vectors[dead], drawn)
    assert len(np.unique(drawn, axis=0)) == 3
    np.testing.assert_allclose(again.counts[dead], even, rtol=1e-6)
    np.testing.assert_allclose(again.sums[dead], even * drawn, rtol=1e-6)
    # So that the next average starts where the vector was put.
    moved = update(again, Z, jnp.zeros(Z.shape[:-1], int), decay=0.9)
    np.testing.assert_allclose(moved.vectors[dead], drawn, rtol=1e-5)


def test_without_a_share_nothing_restarts_and_of_few_codes_each_is_taken_alike_often():
    again = restart(WORN, Z, LOTS, share=0.0)
    jax.tree.map(np.testing.assert_array_equal, again, WORN)
    none = WORN._replace(counts=jnp.array([1.0, 0, 0, 0, 0, 0]))
    few = restart(none, Z[:2, 0, :1], LOTS[:2], share=0.5)
    found, often = np.unique(few.vectors[1:], axis=0, return_counts=True)
    np.testing.assert_array_equal(found, np.unique(Z[:2, 0, 0], axis=0))
    assert sorted(often) == [2, 3]


def test_restarts_on_eight_devices_are_those_of_the_global_batch():
    share = partial(quantized.restart_codes, share=0.05, axis_name="data")
    shards = jax.pmap(share, "data", in_axes=(None, 0, 0))(WORN, Z[:, None], LOTS[:, None])
    for ours, theirs in zip(shards, restart(WORN, Z, LOTS, share=0.05), strict=True):
        np.testing.assert_array_equal(ours, np.broadcast_to(theirs, ours.shape))


def test_restarts_need_a_key_per_example_and_vectors_like_the_codes():
    with pytest.raises(TypeError, match="one PRNG key per example"):
        quantized.restart_codes(WORN, Z, jax.random.key(0))
    with pytest.raises(ValueError, match=r"z has \(8, 3, 2, 3\), vectors have \(6, 4\)"):
        quantized.restart_codes(WORN, Z[..., :3], LOTS)


@pytest.mark.heavy
def test_perplexity_counts_the_codes_in_use():
    np.testing.assert_allclose(quantized.perplexity(jnp.array([[0, 1], [2, 3]]), 9), 4, rtol=1e-6)
    np.testing.assert_allclose(quantized.perplexity(jnp.zeros((3, 3), int), 9), 1, rtol=1e-6)
    p = np.array([3, 1]) / 4
    uneven = quantized.perplexity(jnp.array([5, 5, 5, 0]), 9)
    np.testing.assert_allclose(uneven, math.exp(-np.sum(p * np.log(p))), rtol=1e-6)


LEVELS = (8, 5, 3, 4)
fsq = jax.jit(partial(quantized.finite_scalar_quantize, levels=LEVELS))


@pytest.mark.heavy
def test_every_finite_scalar_code_is_reached_and_has_a_unique_index():
    z = np.linspace(-8, 8, 4001, dtype=np.float32)
    grids = [np.unique(fsq(np.repeat(z[:, None], 4, 1))[:, i]) for i in range(4)]
    for grid, L in zip(grids, LEVELS, strict=True):
        np.testing.assert_allclose(grid, (np.arange(L) - L // 2) / (L // 2), atol=1e-6)
    indices = jnp.arange(math.prod(LEVELS))
    codes = quantized.finite_scalar_codes(indices, LEVELS)
    assert len(np.unique(codes, axis=0)) == len(indices)
    np.testing.assert_array_equal(quantized.finite_scalar_indices(codes, LEVELS), indices)
    np.testing.assert_array_equal(quantized.finite_scalar_indices(codes, LEVELS)[:9], np.r_[:9])


def test_finite_scalar_gradient_is_that_of_tanh_and_zero_is_a_code():
    z = Z[..., :4]
    slope = jax.jit(jax.grad(lambda z: fsq(z).sum()))(z)
    for i, L in enumerate(LEVELS):
        half, offset = 0.5 * (L - 1) * 1.001, 0.5 * (L % 2 == 0)
        wide = np.float64(z[..., i])
        expected = half / np.cosh(wide + np.arctanh(offset / half)) ** 2 / (L // 2)
        np.testing.assert_allclose(slope[..., i], expected, rtol=1e-4, atol=1e-6)
        bounded = half * np.tanh(wide + np.arctanh(offset / half)) - offset
        np.testing.assert_allclose(fsq(z)[..., i], np.round(bounded) / (L // 2), atol=1e-6)
    np.testing.assert_array_equal(fsq(np.zeros((1, 4), np.float32)), 0)
    for side in (0.01, -0.01):  # the middle of a code and not its edge, for even L too
        np.testing.assert_array_equal(fsq(np.full((1, 4), side, np.float32)), 0)


def test_extremes_stay_finite():
    far = Z * np.float32(1e4)
    q = quantize(far, BOOK)
    np.testing.assert_array_equal(q.indices, nearest(far, BOOK))
    assert np.isfinite(q.loss()).all()
    slope = jax.grad(lambda z: fsq(z).sum())(far)
    assert np.isfinite(fsq(far)).all()
    assert np.isfinite(slope).all()


@pytest.mark.heavy
def test_vmap_pmap_and_bfloat16():
    full = quantize(Z, BOOK)
    one = jax.vmap(lambda z: jax.tree.map(lambda a: a[0], quantize(z[None], BOOK)))(Z)
    shards = jax.pmap(quantize, in_axes=(0, None))(Z[:, None], BOOK)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, one, full)
    jax.tree.map(lambda a, b: close(a[:, 0], b), shards, full)
    close(jax.vmap(fsq)(Z), fsq(Z))
    rounded = quantize(jnp.bfloat16(Z), BOOK)
    assert rounded.codes.dtype == fsq(jnp.bfloat16(Z)).dtype == jnp.bfloat16
    assert rounded.loss().dtype == jnp.float32
    np.testing.assert_allclose(rounded.loss(), full.loss(), rtol=0.05)


def test_mismatched_shapes_raise_naming_both():
    with pytest.raises(ValueError, match=r"\(8, 3, 2, 4\).*\(6, 3\)"):
        quantized.vector_quantize(Z, BOOK[:, :3])
    book = quantized.start_codebook(jnp.asarray(BOOK))
    with pytest.raises(ValueError, match=r"\(8, 3, 2, 4\).*\(8, 3\)"):
        quantized.update_codebook(book, Z, np.zeros((8, 3), int))
    with pytest.raises(ValueError, match=r"\(8, 3, 2, 4\).*\(8, 5\)"):
        quantized.finite_scalar_quantize(Z, (8, 5))
    with pytest.raises(ValueError, match="L ≥ 3"):
        quantized.finite_scalar_quantize(Z, (8, 5, 3, 2))
    with pytest.raises(ValueError, match="2³¹"):
        quantized.finite_scalar_indices(Z, (1024,) * 4)
