"""Every diffusion and flow loss under jit, grad, vmap, pmap, bfloat16 and both kinds of key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, schedules
from genjax.losses import consistency, couplings, diffusion, flow, meanflow, vdm, vlb
from tests.device_counts import DEVICES
from tests.losses.layouts import on_devices

SCHEDULE = schedules.Cosine(8.0, -8.0)
SHAPE = (8, 4, 3)


def wide(t, z):
    return t.reshape(t.shape + (1,) * (z.ndim - t.ndim)).astype(z.dtype)


def network(scale):
    return lambda z, t: jnp.tanh(scale.astype(z.dtype) * z) * (1 - 0.5 * wide(t, z))


def pair(scale):
    return lambda z, t: (network(scale)(z, t), jax.nn.sigmoid(scale.astype(z.dtype) * z))


def denoising(scale, x, key):
    return diffusion.denoising(
        network(scale), x, key, schedule=SCHEDULE, target=predictions.velocity
    )


BOUND = {"schedule": SCHEDULE, "target": predictions.velocity, "steps": 4}


def vlb_term(scale, x, key):
    step = jnp.full(x.shape[0], 2)
    return vlb.term(network(scale), x, key, step, decoder=vlb.continuous_gaussian, **BOUND)


def whole_vlb(scale, x, key):
    return sum(vlb.bound(network(scale), x, key, decoder=vlb.continuous_gaussian, **BOUND))


def hybrid(scale, x, key):
    step = jnp.ones(x.shape[0], jnp.int32)
    return vlb.hybrid(pair(scale), x, key, step, decoder=vlb.continuous_gaussian, **BOUND)


def vdm_elbo(scale, x, key):
    return sum(
        vdm.diffusion_elbo(
            network(scale), x, key, schedule=SCHEDULE, target=predictions.velocity,
            decoder=vdm.gaussian_decoder,
        )
    )  # fmt: skip


def flow_matching(scale, x, key):
    return flow.flow_matching(network(scale), x, key)


def transported(scale, x, key):
    return flow.flow_matching(network(scale), x, key, couple=couplings.optimal_transport)


def interpolant_velocity(scale, x, key):
    return flow.interpolant_velocity(network(scale), x, -x, key, interpolant=flow.encoding_decoding)


def interpolant_denoiser(scale, x, key):
    return flow.interpolant_denoiser(network(scale), x, -x, key, interpolant=flow.encoding_decoding)


EDM = schedules.EDM()


def consistency_training(scale, x, key):
    predict = consistency.boundary(network(scale), schedule=EDM)
    return consistency.training(
        predict, predict, x, key, schedule=EDM, times=consistency.lognormal_pairs(18, schedule=EDM)
    )


def consistency_distillation(scale, x, key):
    predict = consistency.boundary(network(scale), schedule=EDM)
    solve = consistency.heun_step(predict, schedule=EDM, target=predictions.data)
    return consistency.distillation(
        predict, predict, solve, x, key, schedule=EDM, times=consistency.uniform_pairs(18)
    )


def mean_flow(scale, x, key):
    return meanflow.meanflow(
        lambda z, r, t: network(scale)(z, t) * (1 + wide(r, z)), x, key,
        times=meanflow.logit_normal_pairs(),
    )  # fmt: skip


ALONE = [
    denoising,
    vlb_term,
    whole_vlb,
    hybrid,
    vdm_elbo,
    flow_matching,
    interpolant_velocity,
    interpolant_denoiser,
    consistency_training,
    consistency_distillation,
    mean_flow,
]


X = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)


@pytest.mark.heavy
@pytest.mark.parametrize("loss", ALONE, ids=lambda f: f.__name__)
def test_example_depends_on_its_own_key_alone_on_any_number_of_devices(loss):
    keys = jax.random.split(jax.random.key(0), 8)
    compiled = jax.jit(loss)
    value = compiled(jnp.float32(0.7), X, keys)
    assert value.shape == (8,)
    others = keys.at[4:].set(jax.random.split(jax.random.key(1), 4))
    np.testing.assert_array_equal(compiled(jnp.float32(0.7), X, others)[:4], value[:4])
    # One example on each of eight devices.
    spread = jax.pmap(loss, in_axes=(None, 0, 0))(jnp.float32(0.7), X[:, None], keys[:, None])
    np.testing.assert_allclose(spread[:, 0], value, rtol=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("layout", ["pmap", "jit"])
def test_a_coupled_batch_has_the_same_loss_on_any_number_of_devices(layout, devices):
    keys, scale = jax.random.split(jax.random.key(0), 8), jnp.float32(0.7)
    found = on_devices(lambda x, k: transported(scale, x, k), devices, layout, jnp.asarray(X), keys)
    np.testing.assert_allclose(found, transported(scale, X, keys), rtol=1e-6)


# The complete bound is a loop over terms and slow to compile; `hybrid` has such a term.
SHORT = [loss for loss in ALONE if loss not in (vlb_term, whole_vlb)]


@pytest.mark.heavy
@pytest.mark.parametrize("loss", [*SHORT, transported], ids=lambda f: f.__name__)
def test_one_key_bfloat16_and_vmap(loss):
    keys = jax.random.split(jax.random.key(0), 2)
    scale, twice = jnp.float32(0.7), jnp.stack([X, X[::-1]])
    batched = jax.jit(jax.vmap(jax.value_and_grad(lambda *v: loss(*v).mean()), (None, 0, 0)))
    value, gradient = batched(scale, twice, keys)
    rough, rough_gradient = batched(scale, twice.astype(jnp.bfloat16), keys)
    assert rough.dtype == jnp.float32
    assert (value != value[::-1]).all()
    # bfloat16 keeps 3 digits of z and of the network's output.
    np.testing.assert_allclose(rough, value, rtol=0.05)
    np.testing.assert_allclose(rough_gradient, gradient, rtol=0.2, atol=0.05 * abs(value).max())


# The others stop gradients: a difference of values is not their gradient.
COMPLETE = [denoising, vdm_elbo, flow_matching, interpolant_velocity, interpolant_denoiser]


@pytest.mark.parametrize("loss", [vlb_term, *COMPLETE], ids=lambda f: f.__name__)
def test_gradient_is_that_of_float64_differences(loss):
    with jax.enable_x64(True):
        x, key, h = jnp.float64(X), jax.random.key(0), 1e-4

        @jax.jit
        def both(scale):
            def mean(scale):
                return loss(scale, x, key).mean()

            return jax.grad(mean)(scale), (mean(scale + h) - mean(scale - h)) / (2 * h)

        gradient, difference = both(jnp.float64(0.7))
    # h² of a third derivative that is some ten times the first.
    np.testing.assert_allclose(gradient, difference, rtol=1e-6)


@pytest.mark.parametrize("loss", [*ALONE, transported], ids=lambda f: f.__name__)
def test_keys_of_another_batch_size_raise(loss):
    with pytest.raises(ValueError, match="7 keys for 8"):
        jax.eval_shape(loss, jnp.float32(0.7), X, jax.random.split(jax.random.key(0), 7))


@pytest.mark.heavy
def test_raw_keys_are_accepted():
    keys = jax.random.split(jax.random.key(0), 8)
    old = denoising(jnp.float32(0.7), X, jax.random.key_data(keys))
    np.testing.assert_array_equal(old, denoising(jnp.float32(0.7), X, keys))
