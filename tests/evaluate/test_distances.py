"""Distances of feature sets: Gaussians with known values, second implementations, folds."""

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import scipy.linalg
from scipy.special import softmax

from genjax.evaluate import kernel_distance as kernels
from genjax.evaluate.classifier_score import classifier_score
from genjax.evaluate.estimate import fold_bounds
from genjax.evaluate.frechet import (
    frechet,
    frechet_limit,
    gaussian_distance,
    moments,
    moments_of,
)
from genjax.evaluate.kernel_distance import Gaussian, Polynomial, kernel_distance, median_distance
from genjax.evaluate.neighbours import neighbour_scores
from genjax.evaluate.per_class import per_class
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein, sliced_wasserstein_score
from genjax.evaluate.vendi import vendi

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(150, 6)) * np.linspace(0.5, 1.5, 6) + 0.4).astype(np.float32)
Y = RNG.normal(size=(120, 6)).astype(np.float32)


def without(x, j):
    return np.delete(x, slice(*fold_bounds(len(x))[j]), 0)


def fidelity(module, monkeypatch):
    """A file of torch-fidelity by itself: its package imports torchvision."""
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip("torch-fidelity is not installed")
    place = importlib.util.find_spec("torch_fidelity").submodule_search_locations
    package, stub = types.ModuleType("torch_fidelity"), types.ModuleType("torch_fidelity.utils")
    package.__path__ = list(place)
    stub.__getattr__ = lambda name: None
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", stub)
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    finally:
        for name in [name for name in sys.modules if name.startswith("torch_fidelity.")]:
            monkeypatch.delitem(sys.modules, name)


# Fréchet


def test_moments_of_batches_are_those_of_the_set():
    # Far from 0: a sum of squares would lose half of the digits.
    x = X.astype(np.float64) + 1e4
    found = moments([x[:1], x[1:40], x[40:40], x[40:]])
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="two examples"):
        moments([x[:1]])


def test_gaussians_that_commute_differ_by_their_deviations():
    mean, a, b = np.array([1.0, -2.0, 0.0]), np.array([1.0, 4.0, 0.0]), np.array([9.0, 1.0, 0.25])
    found = gaussian_distance(mean, np.diag(a), np.zeros(3), np.diag(b))
    assert found == pytest.approx(5 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


def test_gaussians_in_general_against_scipy():
    a, b = (z @ z.T + np.eye(5) for z in RNG.normal(size=(2, 5, 5)))
    mean = RNG.normal(size=5)
    root = scipy.linalg.sqrtm(a @ b)
    expected = mean @ mean + np.trace(a + b - 2 * root.real)
    assert gaussian_distance(mean, a, 0 * mean, b) == pytest.approx(expected, rel=1e-10)
    assert gaussian_distance(0 * mean, b, mean, a) == pytest.approx(expected, rel=1e-10)
    # A point and a Gaussian: the trace; twice the same: 0.
    assert gaussian_distance(mean, 0 * a, mean, b) == pytest.approx(np.trace(b), rel=1e-12)
    assert abs(gaussian_distance(mean, a, mean, a)) < 1e-12 * np.trace(a)


def test_singular_covariances_of_few_examples():
    # 30 examples of 100 features; against the dual form, tr (Σ₁Σ₂)^½ by singular values.
    x, y = RNG.normal(size=(2, 30, 100)) + 0.1
    a, b = x - x.mean(0), y - y.mean(0)
    overlap = np.linalg.svd(a @ b.T / 29, compute_uv=False).sum()
    gap = x.mean(0) - y.mean(0)
    expected = gap @ gap + ((a**2).sum() + (b**2).sum()) / 29 - 2 * overlap
    found = gaussian_distance(
        *(f(z) for z in map(moments_of, (x, y)) for f in (lambda m: m.mean, lambda m: m.covariance))
    )
    assert found == pytest.approx(expected, rel=1e-7)


def test_frechet_folds_are_those_of_recomputing():
    found = frechet(X, Y)
    assert found.value == pytest.approx(frechet(X[::-1], Y[::-1]).value, rel=1e-12)
    for side in (0, 1):
        sets = [
            [without(z, j) if i == side else z for i, z in enumerate((X, Y))] for j in range(20)
        ]
        exact = np.array([frechet(*pair).value for pair in sets])
        # First order: terms of the square of the share of a fold, 1/20, are missing.
        assert np.corrcoef(exact, found.replicates[side])[0, 1] > 0.995
        assert found.replicates[side].std() == pytest.approx(exact.std(), rel=0.05)


def test_the_limit_has_no_bias_of_n():
    rng = np.random.default_rng(1)
    scale = np.linspace(0.5, 1.5, 8)
    true = 8 * 0.2**2
    pairs = [
        (rng.normal(size=(200, 8)) * scale + 0.2, rng.normal(size=(300, 8)) * scale)
        for _ in range(20)
    ]
    raw = np.array([frechet(*pair).value for pair in pairs])
    limit = np.array([frechet_limit(*pair).value for pair in pairs])
    assert raw.mean() - true > 5 * raw.std() / 20**0.5  # the bias that is to go
    assert abs(limit.mean() - true) < 3 * limit.std() / 20**0.5
    with pytest.raises(ValueError, match="needs over 81 images on both sides, there are 81"):
        frechet_limit(rng.normal(size=(81, 40)), rng.normal(size=(90, 40)))
    assert np.isfinite(frechet_limit(rng.normal(size=(82, 40)), rng.normal(size=(90, 40))).value)


def test_frechet_is_torch_fidelitys(monkeypatch):
    torch = pytest.importorskip("torch")

    fid = fidelity("metric_fid", monkeypatch)
    theirs = [
        fid.fid_features_to_statistics(torch.from_numpy(z.astype(np.float64))) for z in (X, Y)
    ]
    expected = fid.fid_statistics_to_metric(*theirs, False)["frechet_inception_distance"]
    assert frechet(X, Y).value == pytest.approx(expected, rel=1e-9)


# Kernel


def mmd(kernel, x, y):
    """Eq. 4 of arXiv:1801.01401, sum by sum."""
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    return (
        xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    )


def test_kernel_distances_and_their_folds_sum_by_sum():
    x, y = X[:50].astype(np.float64), Y[:42].astype(np.float64)
    for kernel, plain in (
        (Polynomial(), lambda a, b: (a @ b / 6 + 1) ** 3),
        (Polynomial(2, 0.5), lambda a, b: (a @ b / 6 + 0.5) ** 2),
        (Gaussian(1.3), lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * 1.3**2))),
    ):
        found = kernel_distance(x, y, kernel)
        assert found.value == pytest.approx(mmd(plain, x, y), rel=1e-9)
        assert found.replicates[0][3] == pytest.approx(mmd(plain, without(x, 3), y), rel=1e-9)
        assert found.replicates[1][7] == pytest.approx(mmd(plain, x, without(y, 7)), rel=1e-9)


def test_groups_are_averaged(monkeypatch):
    monkeypatch.setattr(kernels, "GROUP", 40)
    x, y = X[:80].astype(np.float64), Y[:40].astype(np.float64)
    found = kernel_distance(x, y)
    plain = lambda a, b: (a @ b / 6 + 1) ** 3  # noqa: E731
    parts = [mmd(plain, x[:40], y[:20]), mmd(plain, x[40:], y[20:])]
    assert found.value == pytest.approx(np.mean(parts), rel=1e-9)
    less = mmd(plain, x[4:40], y[:20])  # without the first fold of ten in that group
    assert found.replicates[0][0] == pytest.approx((36 * less + 40 * parts[1]) / 76, rel=1e-9)
    less = mmd(plain, x[40:], y[20:38])
    assert found.replicates[1][19] == pytest.approx((20 * parts[0] + 18 * less) / 38, rel=1e-9)


def test_groups_of_a_single_fold_and_blocks_within_a_fold(monkeypatch):
    x, y = X[:80].astype(np.float64), Y[:60].astype(np.float64)
    expected = kernel_distance(x, y)
    monkeypatch.setattr(kernels, "_BLOCK", 3)
    found = kernel_distance(x, y)
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    np.testing.assert_allclose(found.replicates, expected.replicates, rtol=1e-9)
    monkeypatch.setattr(kernels, "GROUP", 4)
    found = kernel_distance(x, y)
    parts = np.array(
        [
            mmd(lambda a, b: (a @ b / 6 + 1) ** 3, x[4 * g : 4 * g + 4], y[3 * g : 3 * g + 3])
            for g in range(20)
        ]
    )
    assert found.value == pytest.approx(parts.mean(), rel=1e-9)
    for folds in found.replicates:
        np.testing.assert_allclose(
            folds, [np.delete(parts, j).mean() for j in range(20)], rtol=1e-9
        )
    monkeypatch.setattr(kernels, "GROUP", 3)  # there are never more groups than folds
    assert kernel_distance(x, y).value == found.value


def test_a_shift_of_a_gaussian_in_closed_form():
    # E k(x, y) of N(μ, I) and N(ν, I) under the Gaussian kernel:
    # (σ²/(σ² + 2))^(d/2) exp(−|μ − ν|²/(2(σ² + 2))).
    rng, d, shift, width = np.random.default_rng(2), 3, 0.8, 1.5
    same = (width**2 / (width**2 + 2)) ** (d / 2)
    expected = 2 * same * (1 - np.exp(-(shift**2) / (2 * (width**2 + 2))))
    x, y = rng.normal(size=(2, 1500, d)).astype(np.float32)
    found = kernel_distance(x + shift * np.eye(3, dtype=np.float32)[0], y, Gaussian(width))
    low, high = found.interval(0.999)
    assert low < expected < high < 3 * expected


def test_far_from_0_and_in_float32_the_digits_stay():
    x, y = X[:60] + 100, Y[:60] + 100
    exact = kernel_distance(x.astype(np.float64), y.astype(np.float64), Gaussian(1.0)).value
    assert kernel_distance(x, y, Gaussian(1.0)).value == pytest.approx(exact, rel=1e-4)
    exact = kernel_distance(x.astype(np.float64), y.astype(np.float64)).value
    assert kernel_distance(x, y).value == pytest.approx(exact, rel=1e-3)


def test_the_median_distance():
    square = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    assert median_distance(square) == pytest.approx(1)
    with pytest.raises(ValueError, match="give a bandwidth"):
        median_distance(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="give a bandwidth"):
        median_distance(np.ones((1, 2)))


def test_kernel_distances_are_torch_fidelitys(monkeypatch):
    kid = fidelity("metric_kid", monkeypatch)
    x, y = X[:120].astype(np.float64), Y.astype(np.float64)
    how = {
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
        "kid_kernel_rbf_sigma": 1.7,
    }
    assert kernel_distance(x, y).value == pytest.approx(kid.kernel_mmd(x, y, **how), rel=1e-8)
    how["kid_kernel"] = "rbf"
    expected = kid.kernel_mmd(x, y, **how)
    # Their formula takes 1 for the diagonal, as ours.
    assert kernel_distance(x, y, Gaussian(1.7)).value == pytest.approx(expected, rel=1e-8)


# Nearest neighbours


def prdc(real, fake, k):
    """The formulas of arXiv:2002.09797, eq. 1 to 4, in float64."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)

    def distances(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    ball_real, ball_fake = (np.sort(distances(z, z), 1)[:, k] for z in (real, fake))
    between = distances(real, fake)
    return {
        "precision": (between < ball_real[:, None]).any(0).mean(),
        "recall": (between < ball_fake[None]).any(1).mean(),
        "density": (between < ball_real[:, None]).sum(0).mean() / k,
        "coverage": (between.min(1) < ball_real).mean(),
    }


@pytest.mark.parametrize("k", [1, 5])
def test_neighbour_scores_and_their_folds_by_the_formulas(k):
    x, y = X * 0.7, Y
    found = neighbour_scores(x, y, k)
    assert {n: e.value for n, e in found.items()} == pytest.approx(prdc(y, x, k), abs=1e-12)
    less = {n: e.replicates[0][5] for n, e in found.items()}
    assert less == pytest.approx(prdc(y, without(x, 5), k), abs=1e-12)
    less = {n: e.replicates[1][19] for n, e in found.items()}
    assert less == pytest.approx(prdc(without(y, 19), x, k), abs=1e-12)
    assert len({round(value, 6) for value in prdc(y, x, k).values()}) == 4  # they tell apart


def test_neighbour_scores_are_those_of_the_package_prdc():
    package = pytest.importorskip("prdc")
    expected = package.compute_prdc(Y, X, nearest_k=5)
    found = {n: e.value for n, e in neighbour_scores(X, Y, 5).items()}
    assert found == pytest.approx(expected, abs=1e-9)


def test_extremes_of_neighbour_scores():
    far = neighbour_scores(X + 100, Y)
    for name in ("precision", "recall", "coverage", "density"):
        assert far[name].value == 0
    # A share of 0 among n is not certain: Wilson's z²/(n + z²).
    z = 1.959964
    assert far["precision"].interval() == (0, pytest.approx(z**2 / (150 + z**2), rel=1e-5))
    assert far["coverage"].interval()[1] == pytest.approx(z**2 / (120 + z**2), rel=1e-5)
    assert far["density"].interval() == (0, 0)
    same = neighbour_scores(Y, Y)
    assert (same["precision"].value, same["coverage"].value) == (1, 1)
    with pytest.raises(ValueError, match="k = 61 needs at least 122 images per side, not 120"):
        neighbour_scores(X, Y, 61)


# Vendi


def vendi_of(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(x))
    values = values[values > 1e-14]
    return np.exp(-(values * np.log(values)).sum())


@pytest.mark.parametrize("d", [20, 300])  # fewer features than examples, and more
def test_vendi_and_its_folds_by_the_formula(d):
    x = np.random.default_rng(3).normal(size=(100, d)) + 0.3
    found = vendi(x)
    assert found.value == pytest.approx(vendi_of(x), rel=1e-9)
    assert found.replicates[0][4] == pytest.approx(vendi_of(without(x, 4)), rel=1e-9)
    assert len(found.replicates) == 1


def test_vendi_folds_of_many_examples_to_first_order():
    x = np.random.default_rng(4).normal(size=(400, 8)) * np.linspace(0.3, 1, 8) + 0.3
    found = vendi(x)
    exact = np.array([vendi_of(without(x, j)) for j in range(20)])
    assert found.value == pytest.approx(vendi_of(x), rel=1e-9)
    # Terms of the square of a fold's share, 1/20, are missing.
    assert np.corrcoef(found.replicates[0], exact)[0, 1] > 0.99
    assert found.replicates[0].std() == pytest.approx(exact.std(), rel=0.05)


def test_vendi_counts_what_differs():
    few = np.repeat(np.eye(4), 25, 0)
    assert vendi(few).value == pytest.approx(4, rel=1e-9)
    assert vendi(np.ones((50, 3))).value == pytest.approx(1, abs=1e-9)
    assert vendi(np.eye(60)).value == pytest.approx(60, rel=1e-9)
    with pytest.raises(ValueError, match="all 0"):
        vendi(np.zeros((50, 3)))


def test_vendi_is_the_packages():
    package = pytest.importorskip("vendi_score.vendi")
    assert vendi(X).value == pytest.approx(package.score_dual(X.astype(np.float64)), rel=1e-9)


# Classifier


def test_classifier_scores_known_and_by_the_formula():
    sure = np.tile(1e3 * np.eye(5), (20, 1))
    assert classifier_score(sure).value == pytest.approx(5, rel=1e-9)
    assert classifier_score(np.ones((60, 7))).value == pytest.approx(1, rel=1e-9)
    logits = 2 * X.astype(np.float64)

    def formula(x):
        p = softmax(x, 1)
        return np.exp((p * np.log(p / p.mean(0))).sum(1).mean())

    found = classifier_score(logits)
    assert found.value == pytest.approx(formula(logits), rel=1e-12)
    assert found.replicates[0][2] == pytest.approx(formula(without(logits, 2)), rel=1e-12)


def test_classifier_scores_are_torch_fidelitys(monkeypatch):
    torch = pytest.importorskip("torch")

    isc = fidelity("metric_isc", monkeypatch)
    theirs = isc.isc_features_to_metric(torch.from_numpy(X), splits=3, shuffle=False)
    ours = np.mean([classifier_score(part).value for part in np.split(X, 3)])
    assert ours == pytest.approx(theirs["inception_score_mean"], rel=1e-9)


# Sliced Wasserstein


@pytest.mark.heavy
def test_sets_of_different_sizes_by_scipy():
    import jax

    x, y = X[:, :1], Y[:70, :1]  # in one dimension every direction is ±1
    # W₂² between steps: over a grid that both numbers divide.
    grid = np.lcm(150, 70)
    a, b = (np.repeat(np.sort(z[:, 0]), grid // len(z)).astype(np.float64) for z in (x, y))
    expected = np.sqrt(np.mean((a - b) ** 2))
    assert float(sliced_wasserstein(x, y, jax.random.key(0))) == pytest.approx(expected, rel=1e-5)
    found = sliced_wasserstein_score(x, y)
    assert found.value == pytest.approx(expected, rel=1e-5)
    less = sliced_wasserstein_score(without(x, 3), y).value
    assert found.replicates[0][3] == pytest.approx(less, rel=1e-6)
    less = sliced_wasserstein_score(x, without(y, 8)).value
    assert found.replicates[1][8] == pytest.approx(less, rel=1e-6)


def test_the_score_of_features_is_in_the_unit_of_one_feature():
    shift = np.linspace(0, 1, 6, dtype=np.float32)
    found = sliced_wasserstein_score(Y, Y + shift, projections=4000).value
    assert found == pytest.approx(np.sqrt(np.mean(shift**2)), rel=0.06)


# All


def test_sets_of_different_features_or_too_few_are_refused():
    scores = (frechet, frechet_limit, kernel_distance, neighbour_scores, sliced_wasserstein_score)
    for score in scores:
        with pytest.raises(ValueError, match="5"):
            score(X[:, :5], Y)
        with pytest.raises(ValueError, match=r"at least 40|over 13"):
            score(X[:20], Y)
        with pytest.raises(ValueError, match="the reference hold NaN"):
            score(X, Y * np.float32(np.nan))
    for score in (vendi, classifier_score):
        with pytest.raises(ValueError, match="at least 40"):
            score(X[:20])


def test_each_class_by_itself():
    labels, theirs = np.arange(150) % 3, np.arange(120) % 2
    found = per_class(kernel_distance, X, labels, Y, theirs, ("a", "b", "c"))
    assert list(found) == ["a", "b"]  # no image of c in the reference
    assert found["b"].value == kernel_distance(X[labels == 1], Y[theirs == 1]).value
    with pytest.raises(ValueError, match="class a: 3 images are too few"):
        per_class(kernel_distance, X[:9], labels[:9], Y, theirs, ("a", "b", "c"))
    with pytest.raises(ValueError, match="samples are 150 with 9 labels"):
        per_class(kernel_distance, X, labels[:9], Y, theirs, ("a", "b", "c"))
