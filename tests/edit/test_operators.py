"""Each operator against its matrix, and against scikit-image, SciPy and PIL."""

import io
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from genjax.edit import operators

pytestmark = pytest.mark.heavy

SHAPE = (8, 16, 2)
RNG = np.random.default_rng(0)
KEEP = RNG.random(SHAPE) < 0.6
KERNEL = RNG.normal(size=(3, 5)).astype(np.float32)
# Made when they are first used, not while tests are collected.
LINEAR = {
    "mask": lambda: operators.mask(SHAPE, KEEP),
    "box": lambda: operators.box(SHAPE, 2, 3, 4, 9),
    "random_box": lambda: operators.random_box(SHAPE, jax.random.key(1)),
    "random_mask": lambda: operators.random_mask(SHAPE, jax.random.key(2), 0.7),
    "outpainting": lambda: operators.outpainting(SHAPE, right=8, top=1),
    "area2": lambda: operators.downsample_area(SHAPE, 2),
    "area8": lambda: operators.downsample_area(SHAPE, 8),
    "bicubic4": lambda: operators.downsample_bicubic(SHAPE, 4),
    "blur": lambda: operators.blur(SHAPE, KERNEL),
    "gaussian_blur": lambda: operators.gaussian_blur(SHAPE, 0.8),
    "motion_blur": lambda: operators.motion_blur(SHAPE, 4.5, 30.0, boundary="edge"),
    "grey": lambda: operators.grey(SHAPE, (0.25, 0.75)),
    "linear": lambda: operators.linear(lambda x: jnp.diff(x, axis=1) * 2, SHAPE),
}
OTHERS = {
    "clipping": lambda: operators.clipping(SHAPE),
    "jpeg": lambda: operators.jpeg((8, 16, 3), 75),
}


@cache
def linear():
    """{name: operator}."""
    with jax.ensure_compile_time_eval():  # also where the first use is traced
        return {name: make() for name, make in LINEAR.items()}


@cache
def every():
    """All of them."""
    with jax.ensure_compile_time_eval():
        return linear() | {name: make() for name, make in OTHERS.items()}


X = jax.random.normal(jax.random.key(0), (8, *SHAPE))
RGB = jax.random.normal(jax.random.key(1), (8, 8, 16, 3)) / 2


def image_of(operator):
    return RGB if operator.shape[2] == 3 else X


@pytest.fixture(scope="module")
def observed():
    """{name: y} of all operators, by one program."""
    observe = jax.jit(lambda images: {name: op(images[name]) for name, op in every().items()})
    return observe({name: image_of(op) for name, op in every().items()})


@pytest.fixture(scope="module")
def matrices():
    """{name: A}, [length of y, length of x]."""
    basis = jnp.eye(256).reshape(256, *SHAPE)
    columns = jax.jit(lambda x: {name: op(x) for name, op in linear().items()})(basis)
    return {name: np.asarray(y, np.float64).reshape(256, -1).T for name, y in columns.items()}


@pytest.fixture(scope="module")
def solved(observed):
    """{name: A'u, u, the weighted residual, A+ y}, by one program."""

    def found(y):
        u = {name: jax.random.normal(jax.random.key(2), y[name].shape) for name in LINEAR}
        return {
            name: (
                op.adjoint(u[name]),
                u[name],
                op.solve(y[name], jnp.full(8, 0.7), 0.1),
                op.pseudo_inverse(y[name]),
            )
            for name, op in linear().items()
        }

    return jax.tree.map(lambda x: np.asarray(x, np.float64), jax.jit(found)(observed))


@pytest.mark.parametrize("name", LINEAR)
def test_the_adjoint_is_that_of_the_inner_product(name, matrices, observed, solved):
    adjoint, u, *_ = solved[name]
    left = np.vdot(np.asarray(observed[name], np.float64), u)
    assert left == pytest.approx(np.vdot(np.asarray(X, np.float64), adjoint), rel=1e-5, abs=1e-4)
    right = u.reshape(8, -1) @ matrices[name]
    np.testing.assert_allclose(adjoint.reshape(8, -1), right, atol=2e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_residuals_are_weighted_as_by_the_matrix(name, matrices, observed, solved):
    """So `gram`, where there is one, holds on the range of A."""
    a, y = matrices[name], np.asarray(observed[name], np.float64).reshape(8, -1)
    covariance = 0.7 * a @ a.T + 0.1 * np.eye(len(a))
    right = np.linalg.solve(covariance, y.T).T
    np.testing.assert_allclose(solved[name][2].reshape(8, -1), right, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in LINEAR if "blur" not in n])
def test_the_pseudo_inverse_explains_the_observation_with_the_smallest_image(
    name, matrices, observed, solved
):
    """Not of blurs: what they erase is below float32's digits in A A'."""
    y = np.asarray(observed[name], np.float64).reshape(8, -1)
    right = y @ np.linalg.pinv(matrices[name], rcond=1e-5).T
    np.testing.assert_allclose(solved[name][3].reshape(8, -1), right, atol=1e-3)


def test_examples_are_observed_each_on_its_own(observed):
    def one_by_one(x, rgb):
        return {
            name: jax.vmap(lambda one, op=op: op(one[None])[0])(rgb if name == "jpeg" else x)
            for name, op in every().items()
        }

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    apart = jax.device_put((X, RGB), NamedSharding(mesh, PartitionSpec("data")))
    found = jax.jit(one_by_one)(*apart)
    for name, y in observed.items():
        np.testing.assert_allclose(found[name], y, atol=1e-5, err_msg=name)


def test_half_precision_and_gradients_pass():
    def found(x, rgb):
        halves, slopes = {}, {}
        for name, op in every().items():
            image = rgb if name == "jpeg" else x
            halves[name] = op(image.astype(jnp.bfloat16))
            slopes[name] = jax.grad(lambda x, op=op: (op(x) ** 2).sum())(image)
        return halves, slopes

    halves = jax.eval_shape(found, X, RGB)[0].values()
    assert all(half.dtype == jnp.bfloat16 for half in halves)
    for name, slope in jax.jit(lambda x, rgb: found(x, rgb)[1])(X[:1], RGB[:1]).items():
        assert bool(jnp.isfinite(slope).all() & (slope != 0).any()), name


def test_masks_hide_what_they_say():
    x = jnp.ones((1, 4, 6, 1))

    def hidden(operator):
        return np.asarray(operator(x)[0, :, :, 0]) == 0

    shape = (4, 6, 1)
    np.testing.assert_array_equal(hidden(operators.mask(shape, np.eye(4, 6))), np.eye(4, 6) == 0)
    right = np.zeros((4, 6), bool)
    right[1:3, 2:5] = True
    np.testing.assert_array_equal(hidden(operators.box(shape, 1, 2, 2, 3)), right)
    assert hidden(operators.random_mask(shape, jax.random.key(0), 0.25)).sum() == 6
    right = np.ones((4, 6), bool)
    right[1:4, 2:5] = False
    np.testing.assert_array_equal(
        hidden(operators.outpainting(shape, top=1, left=2, right=1)), right
    )


def test_random_boxes_differ_per_example_and_keep_to_their_shares():
    keys = jax.random.split(jax.random.key(0), 500)
    x = jnp.ones((20, 12, 1))
    kept = jax.vmap(lambda key: operators.random_box(x.shape, key)(x[None])[0])
    kept = jax.jit(kept)(keys)[..., 0]
    rows, columns = (kept == 0).any(2).sum(1), (kept == 0).any(1).sum(1)
    np.testing.assert_array_equal((kept == 0).sum((1, 2)), rows * columns)  # a full rectangle
    assert {*rows.tolist()} == {*range(5, 16)}
    assert {*columns.tolist()} == {*range(3, 10)}
    shown = (kept != 0).mean(0)
    assert float(shown.min()) > 0
    assert float(shown.max()) < 1
    np.testing.assert_array_equal(
        kept[3], operators.random_box(x.shape, keys[3])(x[None])[0, ..., 0]
    )


PHOTO = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), np.uint8)).resize((48, 32), Image.BICUBIC)
)


def floats(image):
    return jnp.asarray(image, jnp.float32)[None]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_downsampling_is_that_of_pil_and_scikit_image(factor):
    plane = PHOTO[..., :1]
    small = (48 // factor, 32 // factor)
    image = Image.fromarray(plane[..., 0].astype(np.float32))
    for method, name in [(Image.BOX, "downsample_area"), (Image.BICUBIC, "downsample_bicubic")]:
        found = getattr(operators, name)(plane.shape, factor)(floats(plane))[0, ..., 0]
        np.testing.assert_allclose(found, np.asarray(image.resize(small, method)), atol=1e-3)
    transform = pytest.importorskip("skimage.transform")
    right = transform.downscale_local_mean(PHOTO.astype(np.float64), (factor, factor, 1))
    found = operators.downsample_area(PHOTO.shape, factor)(floats(PHOTO))[0]
    np.testing.assert_allclose(found, right, atol=1e-3)


BOUNDARIES = {
    "reflect": "mirror",
    "symmetric": "reflect",
    "edge": "nearest",
    "wrap": "wrap",
    "constant": "constant",
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_blurs_are_those_of_scipy(boundary):
    mode = BOUNDARIES[boundary]
    found = operators.blur(PHOTO.shape, KERNEL, boundary=boundary)(floats(PHOTO))[0]
    for channel in range(3):
        plane = PHOTO[..., channel].astype(np.float64)
        right = scipy.ndimage.convolve(plane, KERNEL.astype(np.float64), mode=mode)
        np.testing.assert_allclose(found[..., channel], right, atol=2e-3)
    found = operators.gaussian_blur(PHOTO.shape, 1.3, boundary=boundary)(floats(PHOTO))[0]
    right = scipy.ndimage.gaussian_filter(PHOTO.astype(np.float64), (1.3, 1.3, 0), mode=mode)
    np.testing.assert_allclose(found, right, atol=1e-3)


def test_a_motion_blur_follows_its_angle():
    """By hand: a pixel is 0, √2/2 or √2 − 1 from a segment of length 2 at 45 degrees."""
    dot = jnp.zeros((1, 7, 7, 1)).at[0, 3, 3, 0].set(1)
    steep = operators.motion_blur((7, 7, 1), 3, 45)(dot)[0, 2:5, 2:5, 0]
    near, end = 1 - 0.5**0.5, 2 - 2**0.5
    right = np.array([[0, near, end], [near, 1, near], [end, near, 0]])
    np.testing.assert_allclose(steep, right / right.sum(), atol=1e-6)
    short = operators.motion_blur((7, 7, 1), 1.5)(dot)[0, 3, :, 0]
    np.testing.assert_allclose(short, [0, 0, 1 / 6, 2 / 3, 1 / 6, 0, 0], atol=1e-6)
    level = operators.motion_blur((7, 7, 1), 4)(dot)[0, 3, :, 0]
    np.testing.assert_allclose(level, [0, 0.125, 0.25, 0.25, 0.25, 0.125, 0], atol=1e-6)


def test_grey_is_pils_luma():
    found = operators.grey(PHOTO.shape)(floats(PHOTO))[0, ..., 0]
    right = np.asarray(Image.fromarray(PHOTO).convert("L"), np.float32)
    assert np.abs(found - right).max() < 1  # PIL rounds down


@pytest.mark.parametrize(
    ("quality", "channels", "subsampling", "size"),
    [(50, 1, True, (27, 38)), (75, 3, False, (32, 48)), (10, 3, True, (27, 38))],
    ids=["grey", "444", "420"],
)
def test_jpeg_is_pils(quality, channels, subsampling, size):
    image = PHOTO[: size[0], : size[1]]
    image = image if channels == 3 else image[..., 0]
    file = io.BytesIO()
    chosen = {"subsampling": 2 if subsampling else 0} if channels == 3 else {}
    Image.fromarray(image).save(file, "JPEG", quality=quality, **chosen)
    right = np.asarray(Image.open(file), np.float32)
    x = floats(image.reshape(*size, channels)) / 127.5 - 1
    operator = operators.jpeg((*size, channels), quality, subsampling=subsampling)
    found = np.asarray((jax.jit(operator)(x)[0] + 1) * 127.5).reshape(right.shape)
    np.testing.assert_allclose(found, found.round(), atol=1e-3)
    # libjpeg's integers round a coefficient here and there to the other side of a half, which
    # moves its block by a pattern of a few units.
    wrong = np.abs(found - right)
    assert np.median(wrong) < 0.5
    assert (wrong > 1.5).mean() < 0.1
    assert np.abs(image - right).mean() > 2


def test_jpeg_passes_the_gradient_of_the_identity():
    """A coefficient kept or not: both have the gradient of x, but for what is clipped."""
    x = floats(PHOTO) / 127.5 * 0.5 - 0.5
    operator = operators.jpeg(PHOTO.shape, 20, subsampling=False)
    direction = jax.random.normal(jax.random.key(0), x.shape)
    _, moved = jax.jit(lambda x, d: jax.jvp(operator, (x,), (d,)))(x, direction)
    np.testing.assert_allclose(moved, direction, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: operators.mask(SHAPE, np.ones((4, 4))), r"mask has shape \(4, 4\), but the im"),
        (lambda: operators.mask(SHAPE, np.ones((8, 16, 3))), "mask has shape"),
        (lambda: operators.mask(SHAPE, np.full((8, 16), 255)), "0 .hidden. and 1 .observed."),
        (lambda: operators.mask(SHAPE, np.ones((8, 16))), "nothing is masked"),
        (lambda: operators.mask(SHAPE, np.zeros((8, 16))), "everything is masked"),
        (lambda: operators.mask((8, 16), np.eye(8, 16)), r"\(H, W, C\)"),
        (lambda: operators.box(SHAPE, 0, 0, 9, 2), "box of 9 x 2 at row 0, column 0 is not inside"),
        (lambda: operators.box(SHAPE, 0, 0, 0, 2), "not inside"),
        (lambda: operators.box(SHAPE, 0, 0, 8, 16), "everything is masked"),
        (lambda: operators.random_box(SHAPE, jax.random.key(0), largest=1.0), "largest < 1"),
        (lambda: operators.random_mask(SHAPE, jax.random.key(0), 0.001), "hides 0 of them"),
        (lambda: operators.random_mask(SHAPE, jax.random.key(0), 1.0), "hides 128 of them"),
        (lambda: operators.outpainting(SHAPE), "nothing is masked"),
        (lambda: operators.outpainting(SHAPE, left=8, right=8), "leave nothing"),
        (lambda: operators.outpainting(SHAPE, left=-1), "are negative"),
        (lambda: operators.downsample_area(SHAPE, 3), "8 x 16 is not divisible by 3: crop"),
        (lambda: operators.downsample_bicubic(SHAPE, 16), "not divisible by 16"),
        (lambda: operators.downsample_area(SHAPE, 1), "factor must be 2 or more"),
        (lambda: operators.blur(SHAPE, np.ones((2, 3))), "odd sides"),
        (lambda: operators.blur(SHAPE, np.ones((3, 2))), "odd sides"),
        (lambda: operators.blur(SHAPE, np.ones((17, 3))), "reaches beyond an image of 8 x 16"),
        (lambda: operators.blur(SHAPE, np.zeros((3, 3))), "not all 0"),
        (lambda: operators.blur(SHAPE, np.full((3, 3), np.nan)), "finite"),
        (lambda: operators.blur(SHAPE, KERNEL, boundary="zeros"), "boundary must be one of"),
        (lambda: operators.gaussian_blur(SHAPE, 0.0), "std 0.0 blurs nothing"),
        (lambda: operators.gaussian_blur(SHAPE, 4.0), "33 x 33 reaches beyond"),
        (lambda: operators.motion_blur(SHAPE, 1), "length 1 blurs nothing"),
        (lambda: operators.grey((8, 8, 1)), "grey already"),
        (lambda: operators.grey(SHAPE), "one weight per channel, 2"),
        (lambda: operators.linear(lambda x: x**2, SHAPE), "not linear, or has no transpose"),
        (lambda: operators.linear(lambda x: x + 1, SHAPE), "adds a constant"),
        (lambda: operators.linear(lambda x: x.sum(0), SHAPE), "one result per image"),
        (lambda: operators.clipping(SHAPE, low=1.0), "low < high"),
        (lambda: operators.jpeg(SHAPE, 75), "not 2 channels"),
        (lambda: operators.jpeg((8, 8, 1), 0), "1 to 100, not 0"),
        (lambda: operators.grey((8, 8, 3))(X), r"images of shape \(8, 8, 3\), not \(8, 16, 2\)"),
        (lambda: every()["clipping"].adjoint(X), "not linear"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
