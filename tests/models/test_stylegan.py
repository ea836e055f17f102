"""StyleGAN2: layers by their formulas, networks by their sizes and by what each input moves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import resampling, stylegan

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)


def count(module, *inputs):
    shapes = jax.eval_shape(module.init, KEY, *(jnp.zeros(shape) for shape in inputs))
    return sum(a.size for a in jax.tree.leaves(shapes))


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_has_a_kernel_for_each_example(demodulate):
    rng = np.random.default_rng(0)
    shapes = [(3, 6, 5, 4), (3, 3, 4, 7), (3, 4)]
    x, kernel, style = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    found = jax.jit(partial(stylegan.modulated_conv, demodulate=demodulate))(x, kernel, style)
    for image, s, y in zip(x, style, found, strict=True):
        own = kernel * s[None, None, :, None]
        if demodulate:
            own = own / np.sqrt((own**2).sum((0, 1, 2)) + 1e-8)
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        expected = sum(padded[i : i + 6, j : j + 5] @ own[i, j] for i in range(3) for j in range(3))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_an_equalised_layer_keeps_the_variance_and_learns_at_its_rate():
    x = jax.random.normal(KEY, (500, 200))
    for rate in (1.0, 0.01):
        layer = stylegan.Equalized(300, rate, bias=2.0)
        y, params = jax.jit(layer.init_with_output)(KEY, x)
        np.testing.assert_allclose(y.mean(), 2.0, atol=0.02)
        np.testing.assert_allclose(y.std(), 1.0, atol=0.01)
        slope = jax.jit(jax.grad(lambda p, f=layer: f.apply(p, x).sum()))(params)["params"]["bias"]
        # Adam moves parameters of both rates alike; the layer moves by the rate times as much.
        np.testing.assert_allclose(slope, rate * len(x), rtol=1e-5)


def test_halving_is_a_bilinear_filter_before_a_convolution_of_stride_two():
    x = jax.random.normal(KEY, (2, 12, 12, 3))
    taps = np.outer(resampling.SMOOTH, resampling.SMOOTH) / 64
    smooth = np.broadcast_to(taps[:, :, None, None], (4, 4, 1, 3)).astype(np.float32)
    how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    @jax.jit
    def both(x):
        found, params = stylegan.EqualizedConv(4, halve=True).init_with_output(KEY, x)
        kernel = params["params"]["kernel"] / np.sqrt(27)
        blurred = jax.lax.conv_general_dilated(
            x, smooth, (1, 1), [(2, 3), (2, 3)], feature_group_count=3, **how
        )
        return found, jax.lax.conv_general_dilated(blurred, kernel, (2, 2), "VALID", **how)

    # At the borders zeros are added at another place of the two.
    found, expected = (y[:, 1:-1, 1:-1] for y in both(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_networks_have_the_sizes_of_their_layers():
    w, widths, shape = 8, (6, 5), (4, 4, 3)
    generator = stylegan.Generator(shape, widths, w, mapping_layers=2)
    dense = (7 + 1) * w + (w + 1) * w

    def styled(c, d):
        return (w + 1) * c + 9 * c * d + d + 1  # style, kernel, bias, strength of the noise

    def image(c):
        return (w + 1) * c + c * 3 + 3

    layers = 2 * 2 * 6 + styled(6, 6) + image(6) + styled(6, 5) + styled(5, 5) + image(5)
    assert count(generator, (1, 7)) == dense + layers
    block = (9 * 5 * 5 + 5) + (9 * 5 * 6 + 6) + 5 * 6
    end = (9 * 7 * 6 + 6) + (2 * 2 * 6 + 1) * 6 + (6 + 1)
    assert count(stylegan.Critic((5, 6)), (2, 4, 4, 3)) == (3 + 1) * 5 + block + end


@pytest.fixture(scope="module")
def drawn():
    """A small generator, its parameters moved off their zeros, and latents for each layer."""
    generator = stylegan.Generator((4, 4, 1), (4, 4), 5, mapping_layers=1)
    params = jax.jit(generator.init)(KEY, jnp.zeros((1, 6)))
    params = jax.tree.map(lambda p: p + 0.1, params)
    w = jax.random.normal(KEY, (3, generator.layers, 5))

    @jax.jit
    def draw(w, keys):
        return generator.apply(params, w, keys, method="synthesis")

    return generator, params, w, draw


@pytest.mark.slow
def test_the_latent_of_each_layer_moves_the_image_and_one_is_one_for_all(drawn):
    generator, _, w, draw = drawn
    slopes = jax.jit(jax.grad(lambda w: jnp.square(draw(w, None)).sum()))(w)
    assert (jnp.abs(slopes).max((0, 2)) > 0).all()
    assert generator.layers == 4
    repeated = jnp.repeat(w[:, :1], 4, 1)
    np.testing.assert_allclose(draw(w[:, 0], None), draw(repeated, None), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_noise_is_each_examples_own_and_has_no_strength_at_first(drawn):
    generator, _, w, draw = drawn
    keys = jax.random.split(KEY, 3)
    some, others = draw(w, keys), draw(w, keys[jnp.array([0, 2, 1])])
    np.testing.assert_allclose(some[0], others[0], rtol=1e-5, atol=1e-6)
    assert np.abs(some[1] - others[1]).max() > 1e-3

    @jax.jit
    def at_first(w):
        first = generator.init(KEY, jnp.zeros((1, 6)))
        return [generator.apply(first, w, k, method="synthesis") for k in (keys, None)]

    with_noise, without = at_first(w)
    np.testing.assert_array_equal(with_noise, without)


def test_the_mapping_ignores_the_length_of_the_noise():
    mapping = stylegan.Mapping(5, 2, classes=3)
    z, label = jax.random.normal(KEY, (2, 6)), jnp.array([0, 2])

    @jax.jit
    def latents(z, label):
        return mapping.apply(mapping.init(KEY, z, label), z, label)

    found = latents(z, label)
    np.testing.assert_allclose(latents(3 * z, label), found, rtol=1e-3)
    np.testing.assert_allclose(latents(z[:1], label[:1]), found[:1], rtol=1e-3)
    assert np.abs(latents(z, label[::-1]) - found).max() > 1e-3


def test_sides_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match="divisible by 4"):
        stylegan.Generator((6, 8, 1), (4, 4, 4), 5).init(KEY, jnp.zeros((1, 6)))
