"""Every sampler on the device draws the CPU's samples: noise by the same keys, same arithmetic."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.diffusion.test_sampler_contract import SAMPLERS, sample
from tests.families import FAMILIES, SPEC, initial
from tests.gpu.closeness import computing_on, host

pytestmark = pytest.mark.gpu

COUNT, SIZE, STEPS = 8, 32, 8


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_draws_the_samples_of_the_cpu(name, device, cpu):
    """With the exact denoiser of a Gaussian."""

    def draw(seed):
        return sample(name, jax.random.split(jax.random.key(seed), COUNT), (COUNT, SIZE), n=STEPS)

    found = []
    for place in (device, cpu):
        with computing_on(place), jax.default_matmul_precision("highest"):
            found.append(np.asarray(jax.jit(draw)(0)))
    # Of order one. σ reaches 50 times the deviation of the data: 8 steps of 6e-8 · 50.
    np.testing.assert_allclose(*found, atol=5e-5)
    assert np.std(found[1]) > 0.1


@pytest.mark.parametrize("name", ["ddpm", "flow", "vae conv", "dcgan"])
def test_a_family_generates_the_images_of_the_cpu(name, device, cpu):
    small = FAMILIES[name]
    if hasattr(small.config, "sampling_steps"):
        small = replace(small, config=replace(small.config, sampling_steps=4))
    family = small.family()
    with computing_on(cpu):
        state = initial(family)
        # Layers that start at zero would hide all others.
        draw = np.random.default_rng(0)
        state = jax.tree.map(
            lambda x: (
                np.float32(x + 0.05 * draw.standard_normal(x.shape)) if x.dtype == np.float32 else x
            ),
            state,
        )
        keys = host(jax.random.key_data(jax.random.split(jax.random.key(1), COUNT)))
        latents = host(jax.random.normal(jax.random.key(2), (COUNT, *family.latent)))
    labels = np.arange(COUNT, dtype=np.int32) % SPEC.classes if family.classes else None

    def generate(state, keys, latents, labels):
        return family.generate(state, jax.random.wrap_key_data(keys), latents, labels)

    found = []
    for place in (device, cpu):
        with computing_on(place), jax.default_matmul_precision("highest"):
            found.append(np.asarray(jax.jit(generate)(state, keys, latents, labels)))
    assert found[0].shape == (COUNT, *SPEC.shape)
    # Images in 0..1 after float32 sums of a few hundred terms, and 4 steps of a sampler.
    np.testing.assert_allclose(*found, atol=1e-3)
    assert np.std(found[1]) > 0.01
