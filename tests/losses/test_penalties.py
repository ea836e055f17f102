"""The penalties on critics and generators whose slopes are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import penalties

EPS32 = float(np.finfo(np.float32).eps)
BATCH, SIZE = 8, 5
KEY = jax.random.key(0)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


REAL, FAKE = normal(0, BATCH, SIZE), normal(1, BATCH, SIZE)
WEIGHTS = normal(2, SIZE)


def keep(x, key):
    return x


def jitter(x, key):
    """Adds noise, from one key or one per example."""
    if key.ndim == 0:
        return x + jax.random.normal(key, x.shape, x.dtype)
    return x + jax.vmap(lambda one: jax.random.normal(one, x.shape[1:], x.dtype))(key)


# Every penalty on a critic, as a function of (discriminate, real, fake, key).
CRITIC_PENALTIES = {
    "r1": lambda d, real, fake, key: penalties.r1(d, real),
    "r2": lambda d, real, fake, key: penalties.r2(d, fake),
    "wgan_gp": penalties.wgan_gp,
    "wgan_lp": penalties.wgan_lp,
    "dragan": lambda d, real, fake, key: penalties.dragan(d, real, key, scale=0.5),
    "consistency": lambda d, real, fake, key: penalties.consistency_regularization(
        d, real, jitter, key
    ),
    "balanced_consistency": lambda d, real, fake, key: sum(
        penalties.balanced_consistency(d, real, fake, jitter, key)
    ),
}
EACH = pytest.mark.parametrize("name", CRITIC_PENALTIES)


# Closed forms: linear critics have one slope everywhere


def slope_penalties(norm):
    squared = (norm - 1) ** 2
    return {
        "r1": norm**2,
        "r2": norm**2,
        "wgan_gp": squared,
        "wgan_lp": squared * (norm > 1),
        "dragan": squared,
    }


@jax.jit
def of_a_linear_critic(weights):
    return {
        name: CRITIC_PENALTIES[name](lambda x: x @ weights, REAL, FAKE, KEY)
        for name in ("r1", "r2", "wgan_gp", "wgan_lp", "dragan")
    }


@pytest.mark.parametrize("norm", [1e-3, 0.5, 3.0, 1e4])
def test_penalties_of_a_linear_critic_depend_on_its_slope_alone(norm):
    weights = norm * WEIGHTS / np.linalg.norm(WEIGHTS)
    values = of_a_linear_critic(weights)
    for name, expected in slope_penalties(norm).items():
        value = values[name]
        assert value.shape == (BATCH,)
        # Norms of float32 numbers lose some last places, also before 1 is subtracted.
        atol = 8 * EPS32 * abs(norm - 1) if expected else 0
        np.testing.assert_allclose(value, expected, rtol=16 * EPS32, atol=atol, err_msg=name)


def test_the_gradient_of_the_penalties_of_a_linear_critic_is_the_closed_form():
    norm = np.linalg.norm(WEIGHTS.astype(float))
    assert norm > 1
    two_sided = 2 * (norm - 1) * WEIGHTS / norm
    expected = {
        "r1": 2 * WEIGHTS,
        "r2": 2 * WEIGHTS,
        "wgan_gp": two_sided,
        "wgan_lp": two_sided,
        "dragan": two_sided,
    }
    slopes = jax.jit(jax.jacobian(of_a_linear_critic))(WEIGHTS)
    for name, slope in expected.items():
        per_example = np.broadcast_to(slope, (BATCH, SIZE))
        np.testing.assert_allclose(slopes[name], per_example, rtol=32 * EPS32, err_msg=name)


@pytest.mark.heavy
def test_the_one_sided_penalty_of_flat_critics_has_no_gradient():
    flat = 0.9 * WEIGHTS / np.linalg.norm(WEIGHTS)

    def loss(weights):
        return penalties.wgan_lp(lambda x: x @ weights, REAL, FAKE, KEY).sum()

    np.testing.assert_array_equal(jax.grad(loss)(flat), np.zeros(SIZE))


@pytest.mark.parametrize("name", ["wgan_gp", "wgan_lp", "dragan", "r1"])
def test_a_critic_without_slope_has_a_finite_gradient(name):
    def loss(weights):
        return CRITIC_PENALTIES[name](lambda x: x @ weights, REAL, FAKE, KEY).sum()

    value, slope = jax.value_and_grad(loss)(np.zeros(SIZE, np.float32))
    assert value == (BATCH if name in ("wgan_gp", "dragan") else 0)
    np.testing.assert_array_equal(slope, np.zeros(SIZE))


@pytest.mark.heavy
@pytest.mark.parametrize("norm", [1e-25, 1e18])
def test_slopes_whose_squares_leave_the_float32_range_have_the_right_gradient(norm):
    direction = (WEIGHTS / np.linalg.norm(WEIGHTS)).astype(np.float32)

    def length(weights):
        return penalties.wgan_gp(lambda x: x @ weights, REAL[:1], FAKE[:1], KEY)[0]

    slope = jax.grad(length)(np.float32(norm) * direction)
    expected = 2 * (norm - 1) * direction
    np.testing.assert_allclose(slope, expected, rtol=32 * EPS32)


@EACH
def test_a_critic_that_gives_nan_is_not_hidden(name):
    critic = lambda x: x @ WEIGHTS * jnp.nan  # noqa: E731
    value = jax.jit(lambda x: CRITIC_PENALTIES[name](critic, x, FAKE, KEY))(REAL)
    assert np.all(np.isnan(value))


# Closed forms: quadratic critics have a slope that depends on the point


def test_r1_and_its_gradient_on_a_quadratic_critic_are_the_closed_forms():
    matrix = normal(3, SIZE, SIZE)

    def quadratic(matrix, x):
        return jnp.einsum("bi,ij,bj->b", x, matrix, x) / 2

    value, gradient = jax.value_and_grad(
        lambda m: penalties.r1(lambda x: quadratic(m, x), REAL).sum()
    )(matrix)
    slopes = REAL.astype(float) @ (matrix + matrix.T) / 2
    np.testing.assert_allclose(value, (slopes**2).sum(), rtol=32 * EPS32)
    outer = np.einsum("bi,bj->ij", slopes, REAL)
    # Sums over the batch of terms some times larger than they.
    np.testing.assert_allclose(gradient, outer + outer.T, rtol=1e-5, atol=1e-5)


@pytest.mark.heavy
def test_penalties_of_a_tanh_network_equal_float64_numpy_with_their_gradients():
    W, v = normal(4, 7, SIZE), normal(5, 7)

    def critic(parameters, x):
        W, v = parameters
        return jnp.tanh(x @ W.T) @ v

    # D = v·tanh(Wx): slope g = Wᵀd with d = v(1 − h²), differentiated by hand again.
    x = REAL.astype(float)
    h = np.tanh(x @ W.T.astype(float))
    d = v * (1 - h**2)
    g = d @ W.astype(float)
    norm = np.linalg.norm(g, axis=1, keepdims=True)

    def backward(to_g):  # [B, SIZE], the loss's slope with respect to g
        to_d = to_g @ W.T.astype(float)
        to_W = d.T @ to_g + (to_d * v * -2 * h * (1 - h**2)).T @ x
        return to_W, (to_d * (1 - h**2)).sum(0)

    # With real and fake alike, x̂ is where both are, whatever ε.
    for penalty, value, to_g in [
        (lambda c: penalties.r1(c, REAL), norm**2, 2 * g),
        (
            lambda c: penalties.wgan_gp(c, REAL, REAL, KEY),
            (norm - 1) ** 2,
            2 * (norm - 1) * g / norm,
        ),
        (
            lambda c: penalties.wgan_lp(c, REAL, REAL, KEY),
            np.maximum(norm - 1, 0) ** 2,
            2 * np.maximum(norm - 1, 0) * g / norm,
        ),
        (
            lambda c: penalties.dragan(c, REAL, KEY, scale=0.0),
            (norm - 1) ** 2,
            2 * (norm - 1) * g / norm,
        ),
    ]:

        @jax.jit
        def run(p, penalty=penalty):
            value, pull_back = jax.vjp(lambda p: penalty(lambda x: critic(p, x)), p)
            return value, pull_back(jnp.ones(BATCH))[0]

        ours, slopes = run((W, v))
        np.testing.assert_allclose(ours, value[:, 0], rtol=1e-5, atol=1e-5)
        for slope, expected in zip(slopes, backward(to_g), strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-5 * scale)


def half_square(x):
    return jnp.square(x).sum(1) / 2


def assert_mean(samples, expected):
    error = np.std(samples) / np.sqrt(len(samples))
    assert abs(np.mean(samples) - expected) < 4 * error


def test_wgan_gp_interpolates_with_one_uniform_weight_per_example():
    real = np.ones((20_000, 1), np.float32)
    # The slope of x²/2 is x̂ itself, here ε: the penalty is (ε − 1)².
    penalty = jax.jit(penalties.wgan_gp, static_argnums=0)
    share = 1 - np.sqrt(penalty(half_square, real, 0 * real, KEY))
    assert share.min() >= 0
    assert share.max() <= 1
    for power in (1, 2, 3):
        assert_mean(share**power, 1 / (power + 1))
    # On the diagonal of two dimensions x̂ = (ε, ε): the norm is √2·ε only if ε is one.
    wide = np.ones((2000, 2), np.float32)
    slope = np.sqrt(penalty(lambda x: jnp.square(x[:, 0] - x[:, 1]), wide, 0 * wide, KEY))
    np.testing.assert_array_equal(slope, 1)


@pytest.mark.heavy
def test_dragan_perturbs_by_gaussian_noise_of_the_given_scale():
    center, scale = 100.0, 2.0
    real = np.full((20_000, 1), center, np.float32)
    noise = np.sqrt(penalties.dragan(half_square, real, KEY, scale=scale)) - (center - 1)
    for power, moment in [(1, 0), (2, scale**2), (4, 3 * scale**4)]:
        assert_mean(noise**power, moment)


def test_a_linear_critic_under_wgan_gp_converges_to_the_closed_form():
    shift, weight = normal(6, SIZE), 10.0

    def loss(w):
        critic = lambda x: x @ w  # noqa: E731
        gap = critic(REAL + shift) - critic(REAL)
        return (gap + weight * penalties.wgan_gp(critic, REAL, REAL + shift, KEY)).mean()

    descend = jax.jit(lambda w: w - 0.02 * jax.grad(loss)(w))
    w = WEIGHTS
    for _ in range(300):
        w = descend(w)
    # Minimising ⟨w, s⟩ + λ(‖w‖ − 1)²: against s, longer than 1 by ‖s‖/2λ.
    distance = np.linalg.norm(shift)
    expected = -shift / distance * (1 + distance / (2 * weight))
    np.testing.assert_allclose(w, expected, atol=1e-4)


def test_a_critic_that_couples_examples_is_penalised_by_the_slope_of_its_sum():
    # Centring the outputs makes their sum constant: no slope, though each output has one.
    value = penalties.r1(lambda x: x @ WEIGHTS - (x @ WEIGHTS).mean(), REAL)
    np.testing.assert_allclose(value, 0, atol=EPS32)


# Consistency


def test_consistency_of_a_linear_critic_is_the_squared_weight_along_the_change():
    change = normal(7, BATCH, SIZE)

    def loss(weights):
        return penalties.consistency_regularization(
            lambda x: x @ weights, REAL, lambda x, key: x + change, KEY
        ).sum()

    value, slope = jax.value_and_grad(loss)(WEIGHTS)
    along = change.astype(float) @ WEIGHTS
    # Differences of outputs of order 5.
    np.testing.assert_allclose(value, (along**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(slope, 2 * along @ change, rtol=1e-5, atol=1e-5)


def test_consistency_with_no_augmentation_is_zero():
    value = penalties.consistency_regularization(half_square, REAL, keep, KEY)
    np.testing.assert_array_equal(value, np.zeros(BATCH))


def test_balanced_consistency_is_both_halves_with_independent_augmentations():
    critic = lambda x: x @ WEIGHTS  # noqa: E731
    both = penalties.balanced_consistency(critic, REAL, FAKE, jitter, KEY)
    for half, x, key in zip(both, (REAL, FAKE), jax.random.split(KEY), strict=True):
        np.testing.assert_array_equal(
            half, penalties.consistency_regularization(critic, x, jitter, key)
        )
    alike = penalties.balanced_consistency(critic, REAL, REAL, jitter, KEY)
    assert np.all(alike.real != alike.fake)


# Latent consistency


def test_latent_consistency_is_how_far_images_and_outputs_move():
    matrix, step = normal(12, SIZE, 3), 0.1
    z = normal(13, BATCH, 3)
    moved = step * np.asarray(jax.random.normal(KEY, z.shape), np.float64)

    def of(matrix):
        return penalties.latent_consistency(
            lambda x: x @ WEIGHTS, lambda z: z @ matrix.T, z, KEY, scale=step
        )

    there = moved @ matrix.astype(np.float64).T
    np.testing.assert_allclose(of(matrix).critic, (there @ WEIGHTS) ** 2, rtol=1e-3)
    np.testing.assert_allclose(of(matrix).generator, -(there**2).sum(1), rtol=1e-4)
    # The generator's part falls where images move more: ∂/∂M of −‖Mδ‖² is −2 Σ Mδδᵀ.
    slope = jax.grad(lambda m: of(m).generator.sum())(matrix)
    np.testing.assert_allclose(slope, -2 * there.T @ moved, rtol=1e-3, atol=1e-5)
    still = penalties.latent_consistency(half_square, jnp.tanh, REAL, KEY, scale=0.0)
    np.testing.assert_array_equal(still, np.zeros((2, BATCH)))
    with pytest.raises(ValueError, match="one number per example"):
        penalties.latent_consistency(lambda x: x, jnp.tanh, REAL, KEY, scale=0.1)


# LeCam


def test_the_critic_that_lecam_makes_best_measures_the_lecam_divergence():
    atoms, weight, anchor = 3, 0.2, 0.5
    real, fake = np.array([0] * 6 + [1] * 3 + [2] * 3), np.array([0] * 2 + [1] * 3 + [2] * 7)
    p, q = (np.bincount(x, minlength=atoms) / 12 for x in (real, fake))
    divergence = ((p - q) ** 2 / (p + q)).sum()
    # By hand: the derivative of q − p + 2λ(p(D + α) + q(D − α)) at each atom is zero.
    best = (p - q) * (1 - 2 * weight * anchor) / (2 * weight * (p + q))
    anchors = penalties.Anchors(jnp.float32(anchor), jnp.float32(-anchor))

    def loss(d):
        held = penalties.lecam(d[real], d[fake], anchors, decay=1.0)
        return (d[fake] - d[real] + weight * held.penalty).mean()

    d = jnp.asarray(best, jnp.float32)
    np.testing.assert_allclose(jax.grad(loss)(d), 0, atol=1e-6)
    expected = (1 / (2 * weight) - anchor) * divergence
    assert (d[real] - d[fake]).mean() == pytest.approx(expected, rel=1e-5)


def test_lecam_holds_outputs_to_the_averages_after_the_step():
    real, fake = jnp.array([1.0, 3.0]), jnp.array([-1.0, 0.0])
    before = penalties.Anchors(jnp.float32(0.2), jnp.float32(-0.2))
    found = penalties.lecam(real, fake, before, decay=0.9)
    alpha = 0.9 * 0.2 + 0.1 * 2, 0.9 * -0.2 + 0.1 * -0.5
    np.testing.assert_allclose(found.anchors, alpha, rtol=1e-6)
    expected = (np.asarray(real) - alpha[1]) ** 2 + (np.asarray(fake) - alpha[0]) ** 2
    np.testing.assert_allclose(found.penalty, expected, rtol=1e-6)
    # No gradient through the averages.
    slope = jax.grad(lambda r: penalties.lecam(r, fake, before, decay=0.9).penalty.sum())(real)
    np.testing.assert_allclose(slope, 2 * (np.asarray(real) - alpha[1]), rtol=1e-6)
    with pytest.raises(ValueError, match="one shape"):
        penalties.lecam(real, fake[:1], before)
    with pytest.raises(ValueError, match=r"must be \[B\]"):
        penalties.lecam(real[:, None], fake[:, None], before)


# Orthogonality


@pytest.mark.heavy
def test_orthogonality_is_of_columns_and_leaves_their_lengths_free():
    q, _ = np.linalg.qr(normal(14, 6, 4))
    assert penalties.orthogonality({"kernel": 3 * q, "bias": jnp.ones(4)}) < 1e-10
    kernel = normal(15, 3, 3, 2, 5)
    products = kernel.reshape(-1, 5).T.astype(np.float64) @ kernel.reshape(-1, 5)
    expected = (products**2).sum() - (np.diag(products) ** 2).sum()
    found, slope = jax.value_and_grad(penalties.orthogonality)({"a": kernel, "b": q})
    assert found == pytest.approx(expected, rel=1e-5)
    # ∂/∂W of ‖WᵀW ⊙ (1 − I)‖² is 4 W (WᵀW ⊙ (1 − I)).
    off = products - np.diag(np.diag(products))
    right = 4 * kernel.reshape(-1, 5) @ off
    np.testing.assert_allclose(slope["a"].reshape(-1, 5), right, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="no kernel"):
        penalties.orthogonality({"bias": jnp.ones(4)})


# Path length

CODE, HEIGHT, WIDTH, CHANNELS = 3, 2, 4, 2
MATRIX = normal(8, HEIGHT * WIDTH * CHANNELS, CODE)
CODES = normal(9, BATCH, CODE)
SHAPE = (BATCH, HEIGHT, WIDTH, CHANNELS)


def linear(matrix, w):
    return (w @ matrix.T).reshape(-1, HEIGHT, WIDTH, CHANNELS)


def path_noise(key=KEY):
    """y as documented: N(0, 1) of the images' shape over √(H·W)."""
    noise = np.asarray(jax.random.normal(key, SHAPE), float).reshape(BATCH, -1)
    return noise / np.sqrt(HEIGHT * WIDTH)


def test_path_length_of_a_linear_generator_is_that_of_its_matrix_with_its_gradient():
    before, decay = 0.7, 0.9

    def loss(matrix):
        path = penalties.path_length(
            lambda w: linear(matrix, w), CODES, KEY, jnp.float32(before), decay=decay
        )
        return path.penalty.sum(), path

    gradient, path = jax.jit(jax.grad(loss, has_aux=True))(MATRIX)
    noise = path_noise()
    projected = noise @ MATRIX  # Aᵀy, [B, CODE]
    length = np.linalg.norm(projected, axis=1)
    mean = decay * before + (1 - decay) * length.mean()
    np.testing.assert_allclose(path.length, length, rtol=1e-5)
    np.testing.assert_allclose(path.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(path.penalty, (length - mean) ** 2, rtol=1e-4, atol=1e-6)
    # The mean is a constant to the gradient.
    expected = np.einsum("b,bi,bj->ij", 2 * (length - mean) / length, noise, projected)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_path_length_of_a_nonlinear_generator_is_that_of_its_explicit_jacobian():
    def generate(w):
        return jnp.tanh(linear(MATRIX, w)) * jnp.cos(w[:, :1, None, None])

    path = jax.jit(lambda w: penalties.path_length(generate, w, KEY, jnp.zeros(())))(CODES)
    jacobians = jax.jit(jax.vmap(jax.jacobian(lambda w: generate(w[None]).ravel())))(CODES)
    length = np.linalg.norm(np.einsum("bij,bi->bj", jacobians, path_noise()), axis=1)
    np.testing.assert_allclose(path.length, length, rtol=1e-5)


def test_the_running_mean_of_path_lengths_reaches_their_expectation():
    # Orthogonal columns of length a: ‖Aᵀy‖ is a/√(H·W) times a chi variable of CODE = 1 degree.
    column = MATRIX[:, :1]

    def run(mean, key):
        path = penalties.path_length(
            lambda w: linear(column, w), CODES[:, :1], key, mean, decay=0.95
        )
        return path.mean, None

    mean, _ = jax.lax.scan(run, jnp.zeros(()), jax.random.split(KEY, 400))
    size = np.linalg.norm(column) / np.sqrt(HEIGHT * WIDTH)
    # 0.95 averages over some 20 batches: 20·BATCH half-normal lengths, known to 4 of their errors.
    error = size * np.sqrt(1 - 2 / np.pi) * np.sqrt(0.05 / 1.95 / BATCH)
    assert abs(mean - size * np.sqrt(2 / np.pi)) < 4 * error


def test_path_length_over_devices_equals_one_device():
    keys = jax.random.split(KEY, BATCH)

    def path(w, keys, axis_name=None):
        return penalties.path_length(
            lambda w: linear(MATRIX, w), w, keys, jnp.ones(()), axis_name=axis_name
        )

    one = jax.jit(path)(CODES, keys)
    many = jax.pmap(lambda w, k: path(w, k, "i"), "i", out_axes=penalties.PathLength(0, 0, None))(
        CODES[:, None], keys[:, None]
    )
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-6)
    np.testing.assert_allclose(many.length.ravel(), one.length, rtol=1e-6)
    np.testing.assert_allclose(many.penalty.ravel(), one.penalty, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.heavy
def test_path_length_of_a_constant_generator_has_a_finite_gradient():
    def loss(matrix):
        return penalties.path_length(
            lambda w: linear(matrix, w), CODES, KEY, jnp.ones(())
        ).penalty.sum()

    np.testing.assert_array_equal(jax.grad(loss)(0 * MATRIX), 0 * MATRIX)


# Transforms, types and keys


def bent(x):
    return jnp.tanh(x @ WEIGHTS.astype(x.dtype)) + half_square(x)


def every_penalty(real, fake, key, critic=bent):
    """All of them at once, since compiling is what costs here."""
    return {name: penalty(critic, real, fake, key) for name, penalty in CRITIC_PENALTIES.items()}


@pytest.mark.heavy
def test_penalties_are_per_example_under_jit_vmap_pmap_and_permutation():
    keys = jax.random.split(KEY, BATCH)
    jitted = jax.jit(every_penalty)
    forward, backward = jitted(REAL, FAKE, keys), jitted(REAL[::-1], FAKE[::-1], keys[::-1])
    # Devices, and on each a stack of one batch of one.
    split = (REAL[:, None, None], FAKE[:, None, None], keys[:, None, None])
    mapped = jax.pmap(jax.vmap(every_penalty))(*split)
    for name, plain in every_penalty(REAL, FAKE, keys).items():
        assert len(np.unique(plain)) == BATCH
        close = {"rtol": 1e-4, "atol": 1e-5, "err_msg": name}
        np.testing.assert_allclose(forward[name], plain, **close)
        np.testing.assert_allclose(mapped[name].ravel(), plain, **close)
        # Example i depends on its own pair and key alone.
        np.testing.assert_allclose(backward[name], plain[::-1], **close)


@pytest.mark.heavy
def test_gradients_equal_finite_differences_of_each_penalty():
    @jax.jit
    def sums(scale):
        penalties = every_penalty(REAL, FAKE, KEY, lambda x: bent(scale * x))
        return {name: value.sum() for name, value in penalties.items()}

    step = 1e-2
    slopes, above, below = jax.jit(jax.jacobian(sums))(1.0), sums(1 + step), sums(1 - step)
    for name, slope in slopes.items():
        difference = (above[name] - below[name]) / (2 * step)
        # The central difference errs by step²/6 of a third derivative some 100 times the first.
        np.testing.assert_allclose(slope, difference, rtol=2e-2, err_msg=name)


def test_bfloat16_inputs_are_summed_in_float32():
    real, fake = (jnp.asarray(x, jnp.bfloat16) for x in (REAL, FAKE))
    for name, value in jax.jit(every_penalty)(real, fake, KEY).items():
        assert value.dtype == jnp.float32, name
        assert np.all(np.isfinite(value)), name


def test_r1_of_many_bfloat16_pixels_does_not_stall():
    # A sum of ones accumulated in bfloat16 stops at 256.
    x = jnp.ones((2, 100, 100), jnp.bfloat16)
    value = penalties.r1(lambda x: x.astype(jnp.float32).sum((1, 2)), x)
    np.testing.assert_array_equal(value, x[0].size)


@pytest.mark.parametrize("name", ["wgan_gp", "dragan"])
def test_raw_keys_are_accepted(name):
    old = jax.random.key_data(KEY)
    penalty = CRITIC_PENALTIES[name]
    np.testing.assert_array_equal(penalty(bent, REAL, FAKE, old), penalty(bent, REAL, FAKE, KEY))
    many = jax.random.split(KEY, BATCH)
    np.testing.assert_array_equal(
        penalty(bent, REAL, FAKE, jax.random.key_data(many)), penalty(bent, REAL, FAKE, many)
    )


# Bad input


@pytest.mark.parametrize("name", ["wgan_gp", "wgan_lp", "balanced_consistency"])
def test_real_and_fake_of_unequal_shape_raise_naming_both(name):
    with pytest.raises(ValueError, match=r"\(8, 5\).*\(7, 5\)"):
        CRITIC_PENALTIES[name](half_square, REAL, FAKE[:7], KEY)


@EACH
def test_a_critic_with_a_trailing_axis_raises_naming_both_shapes(name):
    with pytest.raises(ValueError, match=r"\(8, 1\).*\(8, 5\)"):
        CRITIC_PENALTIES[name](lambda x: half_square(x)[:, None], REAL, FAKE, KEY)


@pytest.mark.parametrize("name", ["wgan_gp", "wgan_lp", "dragan"])
def test_a_wrong_number_of_keys_raises(name):
    with pytest.raises(ValueError, match="3 keys for 8"):
        CRITIC_PENALTIES[name](half_square, REAL, FAKE, jax.random.split(KEY, 3))


def test_an_augmentation_that_changes_the_shape_raises_naming_both():
    with pytest.raises(ValueError, match=r"\(8, 4\).*\(8, 5\)"):
        penalties.consistency_regularization(half_square, REAL, lambda x, key: x[:, 1:], KEY)


def test_a_generator_that_gives_no_images_raises_naming_both_shapes():
    with pytest.raises(ValueError, match=r"\(8, 16\).*\(8, 3\)"):
        penalties.path_length(lambda w: w @ MATRIX.T, CODES, KEY, jnp.zeros(()))
