"""A mixture of Gaussians fitted to codes: how many components, what it draws, where it is kept."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import multivariate_normal

from genjax import data, run
from genjax.errors import ConfigError, GenjaxError
from genjax.run import mixture as mixtures
from genjax.run.config import load
from genjax.train import weights
from genjax.train.game import Aux, Player

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0], [6.0, 1.0], [-3.0, 5.0]])
COVARIANCES = np.array([[[1, 0.8], [0.8, 1]], [[0.3, 0], [0, 2]], [[1, -0.5], [-0.5, 0.5]]])


def true_log_likelihood(codes):
    parts = [
        np.log(w) + multivariate_normal(m, c).logpdf(codes)
        for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
    ]
    return np.logaddexp.reduce(parts, axis=0)


def draws(n, seed=0):
    random = np.random.default_rng(seed)
    which = random.choice(3, n, p=WEIGHTS)
    noise = random.normal(size=(n, 2))
    factors = np.linalg.cholesky(COVARIANCES)
    return MEANS[which] + np.einsum("nij,nj->ni", factors[which], noise)


@pytest.fixture(scope="module")
def fitted():
    return mixtures.fit(draws(4000))


def test_a_mixture_of_three_is_found_by_held_out_likelihood(fitted):
    assert len(fitted.weights) in (3, 4)
    best = max(fitted.tried.values())
    assert best == fitted.tried[len(fitted.weights)]
    truth = true_log_likelihood(draws(4000)[::10]).mean()  # of the same held-out codes
    assert best == pytest.approx(truth, abs=0.02)
    assert fitted.tried[1] < fitted.tried[2] - 0.1 < best - 0.2


def test_draws_are_those_of_the_distribution_and_each_depends_on_its_number_alone(fitted):
    codes = np.asarray(fitted.draw(jax.random.key(0), 4000), np.float64)
    assert true_log_likelihood(codes).mean() == pytest.approx(
        true_log_likelihood(draws(100_000, 1)).mean(), abs=0.06
    )
    np.testing.assert_allclose(codes.mean(0), WEIGHTS @ MEANS, atol=0.2)
    np.testing.assert_array_equal(fitted.draw(jax.random.key(0), 7), codes[:7].astype(np.float32))
    assert not (fitted.draw(jax.random.key(1), 7) == codes[:7]).any()


def test_the_density_is_that_of_its_gaussians(fitted):
    codes = np.random.default_rng(1).normal(size=(5, fitted.means.shape[1])) * 2
    gaussians = [
        multivariate_normal(mean, factor @ factor.T)
        for mean, factor in zip(fitted.means, fitted.factors, strict=True)
    ]
    density = sum(w * g.pdf(codes) for w, g in zip(fitted.weights, gaussians, strict=True))
    found = fitted.log_density(jnp.asarray(codes, jnp.float32))
    np.testing.assert_allclose(found, np.log(density), rtol=1e-4, atol=1e-4)


def test_gaussian_codes_take_one_component():
    factor = np.array([[2.0, 0, 0, 0], [1, 0.5, 0, 0], [0, 0, 3, 0], [0, 0, 1, 1]])
    codes = np.random.default_rng(0).normal(size=(4000, 4)) @ factor.T + 100
    found = mixtures.fit(codes)
    assert len(found.weights) == 1
    shown = codes[np.arange(4000) % 10 != 0]
    np.testing.assert_allclose(found.means[0], shown.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        found.factors[0] @ found.factors[0].T, np.cov(shown.T, bias=True), rtol=1e-3, atol=1e-4
    )
    expected = multivariate_normal(found.means[0], factor @ factor.T).logpdf(codes[::10]).mean()
    assert found.tried[1] == pytest.approx(expected, abs=0.02)
    assert 3 in found.tried  # two more that were worse
    assert 4 not in found.tried


def test_a_fit_depends_on_its_seed_alone():
    codes = draws(400)
    a, b = (mixtures.fit(codes, 1) for _ in range(2))
    np.testing.assert_array_equal(a.means, b.means)
    np.testing.assert_array_equal(a.factors, b.factors)


def test_too_few_codes_and_nan_are_refused():
    for codes in (draws(19), np.full((50, 2), np.nan)):
        with pytest.raises(ConfigError, match="needs 20 finite codes"):
            mixtures.fit(codes)
    few = mixtures.fit(np.random.default_rng(0).normal(size=(20, 30)))  # fewer than dimensions
    assert np.isfinite(few.draw(jax.random.key(0), 3)).all()


# In a run and its export.

PIXELS = np.concatenate([np.full((40, 1, 2, 1), level, np.uint8) for level in (40, 220)])
PIXELS = PIXELS + np.random.default_rng(0).integers(0, 10, PIXELS.shape, np.uint8)
IMAGES = data.from_arrays(PIXELS)


def family(**more):
    """Codes are the pixels, of mean 0 and variance 1 over all images."""

    def loss(params, state, keys, batch):
        return jnp.mean((params["net"] - 1.0) ** 2), Aux()

    def encode(state, images):
        return (images.reshape(len(images), -1) / 255 - 0.5) * 2.8

    def generate(state, keys, z, label):
        return (z / 2.8 + 0.5).reshape(len(z), 1, 2, 1)

    how = {"latent": (2,), "encode": encode, "mixture": True, **more}
    game = {"net": Player(loss, optax.adam(1e-2), ema=0.5)}
    return run.Family(game, lambda key, before: ({"net": jnp.zeros(2)}, {}), generate, **how)


FAMILY = family()


def trained(directory, steps=2, made=FAMILY):
    how = {"batch": 8, "every": 2, "samples": 4, "devices": 1, "scan_steps": 1}
    return run.train(made, IMAGES, run.Settings(steps, dir=str(directory), **how), name="x")


def refuse(*_):
    raise AssertionError("fitted again")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mixture") / "run"
    trained(directory).sample(2)
    run.open(directory, FAMILY, IMAGES).export(directory.parent / "export")
    return directory


def like_the_images(images):
    pixels = images.reshape(-1, 2).astype(int)
    near = [(abs(pixels - level - 5) < 20).all(1) for level in (40, 220)]
    return np.mean(near[0] | near[1]), min(map(np.mean, near))


def test_samples_come_from_the_mixture_where_the_family_says_so_or_one_asks(original, caplog):
    opened = run.open(original, FAMILY, IMAGES)
    by_mixture, by_gaussian = opened.sample(200, 3), opened.sample(200, 3, prior="gaussian")
    share, rarer = like_the_images(by_mixture)
    assert share > 0.99
    assert rarer > 0.3
    assert like_the_images(by_gaussian)[0] < 0.5
    np.testing.assert_array_equal(opened.sample(20, 3), by_mixture[:20])
    plain = run.open(original, family(mixture=False), IMAGES)
    np.testing.assert_array_equal(plain.sample(200, 3), by_gaussian)
    np.testing.assert_array_equal(plain.sample(200, 3, prior="mixture"), by_mixture)


def test_a_mixture_is_fitted_once_per_step_and_said(original, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "genjax")
    directory = shutil.copytree(original, tmp_path / "run")
    before = run.open(directory, FAMILY, IMAGES).sample(4)
    with monkeypatch.context() as patched:
        patched.setattr(mixtures, "fit_to_images", refuse)
        np.testing.assert_array_equal(run.open(directory, FAMILY).sample(4), before)
    trained(directory, 4).sample(4)
    assert "codes of 72 images: mixture of " in caplog.text
    assert " Gaussians; nats of a held-out code by their number: 1: 0.0" in caplog.text
    names = sorted(path.name for path in directory.glob("mixture*"))
    assert names == ["mixture_2.safetensors", "mixture_4.safetensors"]


def test_an_export_draws_the_same_images_without_the_data(original, tmp_path):
    before = run.open(original, FAMILY, IMAGES).sample(5, 1)
    folder = shutil.copytree(original.parent / "export", tmp_path / "export")
    np.testing.assert_array_equal(run.load(folder, FAMILY).sample(5, 1), before)
    (folder / mixtures.NAME).unlink()
    loaded = run.load(folder, FAMILY)
    with pytest.raises(ConfigError, match="exported without a mixture: give --prior gaussian"):
        loaded.sample(5, 1)
    assert loaded.sample(5, prior="gaussian").shape == (5, 1, 2, 1)


def test_an_export_needs_no_mixture_where_the_images_are_gone(original, tmp_path, caplog):
    directory = shutil.copytree(original, tmp_path / "run")
    (directory / "mixture_2.safetensors").unlink()
    folder = run.open(directory, FAMILY).export(tmp_path / "export")
    assert "no mixture is exported" in caplog.text
    assert not (folder / mixtures.NAME).exists()


def forge(path, name, change, *, sealed=True):
    """Replaces an array; with the digest that fits where it is sealed."""
    tree, about = weights.load_nested(path)
    tree[name] = change(tree.get(name))
    if sealed:
        about["mixture"] = mixtures._digest(tree)
    weights.save(path, tree, about)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b"no safetensors"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: forge(path, "means", lambda x: x + 1e-6, sealed=False),
        lambda path: forge(path, "means", lambda x: x * np.nan),
        lambda path: forge(path, "weights", lambda x: np.array([x[0] + x[1] + 0.5, -0.5, *x[2:]])),
        lambda path: forge(path, "weights", lambda x: x * 2),
        lambda path: forge(path, "means", lambda x: x[:, :1]),
        lambda path: forge(path, "factors", lambda x: x.astype(np.float32)),
        lambda path: forge(path, "tried", lambda x: x[:, 0]),
        lambda path: forge(path, "more", lambda x: np.zeros(3)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_mixture_is_refused_in_an_export_and_fitted_again_in_a_run(
    original, tmp_path, caplog, harm
):
    place = shutil.copytree(original.parent, tmp_path / "all")
    harm(place / "export" / mixtures.NAME)
    with pytest.raises(GenjaxError) as raised:
        run.load(place / "export", FAMILY).sample(2)
    assert mixtures.NAME in str(raised.value)
    assert "\n" not in str(raised.value)
    before = run.open(original, FAMILY, IMAGES).sample(3)
    harm(place / "run" / "mixture_2.safetensors")
    np.testing.assert_array_equal(run.open(place / "run", FAMILY, IMAGES).sample(3), before)
    assert "a mixture is fitted again" in caplog.text


def test_a_mixture_of_other_weights_is_not_used(original, tmp_path, caplog):
    path = original / "mixture_2.safetensors"
    state = run.open(original, FAMILY).state
    other = jax.tree.map(lambda x: x + 1, state)
    with pytest.raises(ConfigError, match="belongs to other weights"):
        mixtures.load(path, FAMILY, other)
    mixtures.load(path, FAMILY, state)


@pytest.mark.parametrize(
    ("made", "prior", "message"),
    [
        (family(encode=None, mixture=False), "mixture", "it has no encoder"),
        (family(classes=2, mixture=False), "mixture", "it draws classes"),
        (family(latent=(1, 2), mixture=False), "mixture", "its codes are no vectors"),
        (
            family(latent=None, draw=lambda key, n: jnp.zeros((n, 2)), mixture=False),
            "gaussian",
            "it draws its own latents",
        ),
    ],
)
def test_a_family_without_such_codes_is_refused(original, made, prior, message):
    state = run.open(original, FAMILY).state
    opened = run.RestoredRun(original, made, load(original / "config.json"), state, IMAGES)
    with pytest.raises(ConfigError, match=f"--prior {prior} is not for this family: {message}"):
        opened.sample(2, prior=prior)
