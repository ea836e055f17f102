"""Arguments that would be silently wrong: every public function is right, or refuses in a line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import recipes
from genjax.diffusion import (
    adams_bashforth,
    adaptive,
    correctors,
    discrete_schedules,
    few_step,
    guidance,
    guided_samplers,
    interpolants,
    learned_schedule,
    likelihood,
    multistep,
    predictions,
    samplers,
    schedules,
    singlestep,
    steps,
    thresholding,
)
from genjax.losses import (
    adaptive_augmentation,
    augmentation,
    autoencoder,
    beta_tc,
    consistency,
    continuous_consistency,
    couplings,
    diffusion,
    flow,
    gan,
    importance,
    info_vae,
    likelihoods,
    lookup_free,
    meanflow,
    penalties,
    progressive,
    quantized,
    shortcut,
    structural_similarity,
    times,
    vae,
    vdm,
    vlb,
    weightings,
)

KEY = jax.random.key(0)
SHAPE = (2, 4, 4, 1)
X = jax.random.uniform(jax.random.key(1), SHAPE)
VP, RF, EDM = schedules.VP(), schedules.RectifiedFlow(), schedules.EDM()
LINEAR = discrete_schedules.DiscreteLinear(steps=10)
NOISE = {"schedule": VP, "target": predictions.noise}
GRID = steps.linear(2)
PAIR = (jnp.full(2, 0.2), jnp.full(2, 0.4))


def net(z, t):
    return 0.5 * z


def critic(x):
    return x.reshape(len(x), -1).sum(-1)


def encode(x):
    rows = x.reshape(len(x), -1).astype(jnp.float32)
    return rows, 0 * rows


def decode(z):
    return z.reshape(-1, *SHAPE[1:])


VAE = (encode, decode)
NLL = {"nll": likelihoods.bernoulli_nll}


def shifted(images, key):
    return images + 1


# Every public function that takes images, as a function of them alone.
TAKES_IMAGES = {
    "adaptive": lambda x: adaptive_augmentation.augment(x, KEY, 0.5),
    "recolour": lambda x: adaptive_augmentation.recolour(x, KEY, 0.5),
    "warp": lambda x: adaptive_augmentation.warp(x, jnp.stack(2 * [jnp.eye(3)])),
    "brightness": lambda x: augmentation.brightness(x, KEY),
    "saturation": lambda x: augmentation.saturation(x, KEY),
    "contrast": lambda x: augmentation.contrast(x, KEY),
    "translation": lambda x: augmentation.translation(x, KEY),
    "cutout": lambda x: augmentation.cutout(x, KEY),
    "horizontal_flip": lambda x: augmentation.horizontal_flip(x, KEY),
    "rotate90": lambda x: augmentation.rotate90(x, KEY),
    "binarize": lambda x: augmentation.binarize(x, KEY),
    "color": lambda x: augmentation.color(x, KEY),
    "diff_augment": lambda x: augmentation.diff_augment(x, KEY),
    "squared_error": lambda x: autoencoder.squared_error(lambda x: x, lambda z: z, x),
    "regularized_autoencoder": lambda x: autoencoder.regularized_autoencoder(
        lambda x: x, lambda z: z, x
    ),
    "gradient_penalty": lambda x: autoencoder.gradient_penalty(lambda z: z, x),
    "beta_tc": lambda x: beta_tc.beta_tc(*VAE, x, KEY, dataset=9, **NLL),
    "boundary": lambda x: consistency.boundary(net, schedule=EDM)(x, PAIR[0]),
    "training": lambda x: consistency.training(net, net, x, KEY, schedule=EDM, times=PAIR),
    "distillation": lambda x: consistency.distillation(
        net, net, lambda z, t, s: z, x, KEY, schedule=EDM, times=PAIR
    ),
    "heun_step": lambda x: consistency.heun_step(net, **NOISE)(x, PAIR[1], PAIR[0]),
    "continuous": lambda x: continuous_consistency.continuous_consistency(
        net, x, KEY, times=PAIR[0], data_std=0.5
    ),
    "progressive": lambda x: progressive.progressive_distillation(
        net, net, x, KEY, schedule=VP, target=predictions.velocity, steps=2
    ),
    "optimal_transport": lambda x: couplings.optimal_transport(x, X, KEY),
    "entropic_plan": lambda x: couplings.entropic_plan(x, X, 1.0),
    "sinkhorn": lambda x: couplings.sinkhorn(1.0)(x, X, KEY),
    "denoising": lambda x: diffusion.denoising(net, x, KEY, **NOISE),
    "recipe": lambda x: recipes.ddpm.loss(net, x, KEY),
    "flow_matching": lambda x: flow.flow_matching(net, x, KEY),
    "interpolant_velocity": lambda x: flow.interpolant_velocity(net, x, X, KEY),
    "interpolant_velocity y": lambda x: flow.interpolant_velocity(net, X, x, KEY),
    "interpolant_denoiser": lambda x: flow.interpolant_denoiser(
        net, x, X, KEY, interpolant=flow.linear
    ),
    "iwae": lambda x: importance.iwae(*VAE, x, KEY, samples=2, **NLL),
    "dreg": lambda x: importance.dreg(*VAE, x, KEY, samples=2, **NLL),
    "log_likelihood of a VAE": lambda x: importance.log_likelihood(
        *VAE, x, KEY, samples=2, chunk=1, **NLL
    ),
    "mean_elbo": lambda x: importance.mean_elbo(*VAE, x, KEY, samples=2, **NLL),
    "info_vae": lambda x: info_vae.info_vae(*VAE, x, KEY, **NLL),
    "bernoulli_nll": lambda x: likelihoods.bernoulli_nll(X, x),
    "gaussian_nll": lambda x: likelihoods.gaussian_nll(X, x),
    "gaussian_learned_variance_nll": lambda x: likelihoods.gaussian_learned_variance_nll((X, X), x),
    "optimal_variance": lambda x: likelihoods.optimal_variance(X, x),
    "gaussian_optimal_variance_nll": lambda x: likelihoods.gaussian_optimal_variance_nll(X, x),
    "discretized_logistic_nll": lambda x: likelihoods.discretized_logistic_nll((X, X), x),
    "discretized_logistic_mixture_nll": lambda x: likelihoods.discretized_logistic_mixture_nll(
        jnp.concatenate([X] * 3, -1), x
    ),
    "meanflow": lambda x: meanflow.meanflow(lambda z, r, t: z, x, KEY, times=PAIR),
    "shortcut": lambda x: shortcut.shortcut(lambda z, t, d: z, lambda z, t, d: z, x, KEY, every=1),
    "r1": lambda x: penalties.r1(critic, x),
    "r2": lambda x: penalties.r2(critic, x),
    "wgan_gp": lambda x: penalties.wgan_gp(critic, x, x, KEY),
    "wgan_lp": lambda x: penalties.wgan_lp(critic, x, x, KEY),
    "dragan": lambda x: penalties.dragan(critic, x, KEY, scale=0.5),
    "consistency_regularization": lambda x: penalties.consistency_regularization(
        critic, x, shifted, KEY
    ),
    "balanced_consistency": lambda x: penalties.balanced_consistency(critic, x, x, shifted, KEY),
    "vector_quantize": lambda x: quantized.vector_quantize(x, jnp.zeros((3, 1))),
    "latent_consistency": lambda x: penalties.latent_consistency(critic, jnp.tanh, x, KEY, scale=1),
    "lookup_free": lambda x: lookup_free.lookup_free_quantize(x),
    "residual_quantize": lambda x: quantized.residual_quantize(x, jnp.ones((2, 3, 1))),
    "ssim": lambda x: structural_similarity.ssim(x, x, window=3),
    "ms_ssim": lambda x: structural_similarity.ms_ssim(x, x, window=2, scales=(0.5, 0.5)),
    "finite_scalar_quantize": lambda x: quantized.finite_scalar_quantize(x, (3,)),
    "elbo": lambda x: vae.elbo(*VAE, x, KEY, **NLL),
    "reparameterize": lambda x: vae.reparameterize(x, X, KEY),
    "diffusion_elbo": lambda x: vdm.diffusion_elbo(
        net,
        x,
        KEY,
        schedule=schedules.LinearLogSNR(),
        target=predictions.noise,
        decoder=vdm.gaussian_decoder,
    ),
    "prior": lambda x: vlb.prior(x, schedule=LINEAR),
    "term": lambda x: vlb.term(
        net, x, KEY, jnp.array([1, 2]), schedule=LINEAR, target=predictions.noise, steps=10
    ),
    "bound": lambda x: vlb.bound(
        net, x, KEY, schedule=LINEAR, target=predictions.noise, steps=2
    ),
    "hybrid": lambda x: vlb.hybrid(
        lambda z, t: (z, z), x, KEY, jnp.array([1, 2]), schedule=LINEAR,
        target=predictions.noise, steps=10,
    ),
    "ancestral": lambda x: samplers.ancestral(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "ddim": lambda x: samplers.ddim(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "euler": lambda x: samplers.euler(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "heun": lambda x: samplers.heun(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "dpm_solver_2m": lambda x: multistep.dpm_solver_2m(
        net, KEY, SHAPE, steps=GRID, start=x, **NOISE
    ),
    "unipc": lambda x: multistep.unipc(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "dpm_solver_3m": lambda x: multistep.dpm_solver_3m(
        net, KEY, SHAPE, steps=GRID, start=x, **NOISE
    ),
    "lms": lambda x: adams_bashforth.lms(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "deis": lambda x: adams_bashforth.deis(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "dpm_solver": lambda x: singlestep.dpm_solver(net, KEY, SHAPE, steps=GRID, start=x, **NOISE),
    "dpm_solver_2s": lambda x: singlestep.dpm_solver_2s(
        net, KEY, SHAPE, steps=GRID, start=x, **NOISE
    ),
    "dpm_solver_sde": lambda x: singlestep.dpm_solver_sde(
        net, KEY, SHAPE, steps=GRID, start=x, **NOISE
    ),
    "interpolant": lambda x: interpolants.sde(
        net, KEY, SHAPE, steps=GRID, start=x, diffusion=VP.sigma, **NOISE
    ),
    "cfg_plus_plus": lambda x: guided_samplers.cfg_plus_plus(
        net, net, KEY, SHAPE, scale=0.5, steps=GRID, start=x, **NOISE
    ),
    "adaptive_projected": lambda x: guided_samplers.adaptive_projected(
        net, net, KEY, SHAPE, scale=2.0, steps=GRID, start=x, **NOISE
    ),
    "dpm_solver_adaptive": lambda x: adaptive.dpm_solver_adaptive(
        net, KEY, SHAPE, start=x, **NOISE
    ),
    "few_step consistency": lambda x: few_step.consistency(
        net, KEY, SHAPE, steps=GRID, start=x, schedule=VP
    ),
    "few_step meanflow": lambda x: few_step.meanflow(
        lambda z, r, t: z, KEY, SHAPE, steps=GRID, start=x
    ),
    "predictor_corrector": lambda x: correctors.predictor_corrector(
        net, KEY, SHAPE, steps=GRID, start=x, **NOISE
    ),
    "encode": lambda x: samplers.encode(net, x, steps=GRID, **NOISE),
    "log_likelihood": lambda x: likelihood.log_likelihood(net, x, steps=GRID, **NOISE),
    "static": lambda x: thresholding.static()(x),
    "dynamic": lambda x: thresholding.dynamic()(x),
}  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("name", TAKES_IMAGES)
def test_integer_images_raise_one_error_everywhere(name, dtype):
    images = np.random.default_rng(0).integers(0, 2, SHAPE).astype(dtype)
    with pytest.raises(ValueError, match=r"must be floats .*scale integers to floats") as error:
        TAKES_IMAGES[name](jnp.asarray(images))
    assert f"got {np.dtype(dtype)} {SHAPE}" in str(error.value)


ONE_IMAGE = [
    "denoising",
    "flow_matching",
    "encode",
    "log_likelihood",
    "elbo",
    "squared_error",
    "r1",
]


# Options that may be traced, as functions of the option: the value is that of the Python number.
TRACED = {
    "ddim eta": (0.5, lambda v: samplers.ddim(net, KEY, SHAPE, steps=GRID, eta=v, **NOISE)),
    "ddim eta 0": (0.0, lambda v: samplers.ddim(net, KEY, SHAPE, steps=GRID, eta=v, **NOISE)),
    "2m eta": (0.5, lambda v: multistep.dpm_solver_2m(net, KEY, SHAPE, steps=GRID, eta=v, **NOISE)),
    "2s eta": (
        0.5, lambda v: singlestep.dpm_solver_2s(net, KEY, SHAPE, steps=GRID, eta=v, **NOISE)
    ),
    "corrector snr": (
        0.2,
        lambda v: correctors.predictor_corrector(net, KEY, SHAPE, steps=GRID, snr=v, **NOISE),
    ),
    "churn": (
        1.5,
        lambda v: samplers.heun(
            net, KEY, SHAPE, steps=GRID, churn=samplers.Churn(0.2 * v, 0.01 * v, 9 * v, v), **NOISE
        ),
    ),
    "cfg_plus_plus scale": (
        0.5,
        lambda v: guided_samplers.cfg_plus_plus(
            net, lambda z, t: z**2, KEY, SHAPE, scale=v, eta=v, steps=GRID, **NOISE
        ),
    ),
    "apg": (
        0.5,
        lambda v: guided_samplers.adaptive_projected(
            net, lambda z, t: z**2, KEY, SHAPE, scale=4 * v, momentum=-v, parallel=v, norm=v,
            steps=GRID, **NOISE,
        ),
    ),
    "adaptive": (
        0.02,
        lambda v: adaptive.dpm_solver_adaptive(
            net, KEY, SHAPE, end=v, rtol=v, atol=v / 9, first=v, safety=40 * v, **NOISE
        ),
    ),
    "rescale": (
        0.7,
        lambda v: guidance.classifier_free(net, lambda z, t: z**2, 2.0, rescale=v)(X, PAIR[0]),
    ),
    "dynamic": (0.9, lambda v: thresholding.dynamic(v)(3 * X)),
    "VE": (30.0, lambda v: _all_of(schedules.VE(1 / v, v))),
    "EDM": (30.0, lambda v: _all_of(schedules.EDM(1 / v, v))),
    "Cosine": (9.0, lambda v: _all_of(schedules.Cosine(v, -v))),
    "Sigmoid": (3.0, lambda v: _all_of(schedules.Sigmoid(-v, v, v))),
    "LinearLogSNR": (9.0, lambda v: _all_of(schedules.LinearLogSNR(v, -v))),
    "Shifted": (1.5, lambda v: _all_of(schedules.Shifted(RF, v))),
    "karras": (0.1, lambda v: steps.karras(4, schedule=RF, sigma_min=v)),
    "linear": (0.1, lambda v: steps.linear(4, end=v)),
    "quadratic": (0.1, lambda v: steps.quadratic(4, end=v)),
    "min_snr": (3.0, lambda v: weightings.min_snr(v)(jnp.linspace(-5, 5, 9))),
    "p2": (3.0, lambda v: weightings.p2(0.5, v)(jnp.linspace(-5, 5, 9))),
    "label_smoothing": (0.9, lambda v: gan.label_smoothing(v).discriminator(PAIR[0], PAIR[1])),
    "teacher_decay": (0.8, lambda v: consistency.teacher_decay(4, start=v)),
    "Uniform": (0.2, lambda v: times.Uniform(v)(KEY, 4)),
    "minibatch_weighted": (50, lambda v: beta_tc.minibatch_weighted(4, v)),
    "minibatch_stratified": (50, lambda v: beta_tc.minibatch_stratified(4, v)),
    "bins": (
        32.0, lambda v: likelihoods.discretized_logistic_nll((X, X - 3), X, bins=v, high=v / 32),
    ),
    "sinkhorn": (0.5, lambda v: couplings.entropic_plan(X, X[::-1], v)),
    "cutout": (0.5, lambda v: augmentation.cutout(X, KEY, ratio=v)),
    "term": (
        10,
        lambda v: vlb.term(
            net, X, KEY, jnp.array([1, 3]), schedule=LINEAR, target=predictions.noise, steps=v
        ),
    ),
    "diffusion_elbo": (
        10,
        lambda v: vdm.diffusion_elbo(
            net, X, KEY, schedule=schedules.LinearLogSNR(), target=predictions.noise,
            decoder=vdm.gaussian_decoder, steps=v,
        ),
    ),
}  # fmt: skip


def _all_of(schedule):
    t = jnp.linspace(0.1, 0.9, 5)
    return [
        schedule.alpha(t), schedule.sigma(t), schedule.log_snr(t),
        schedule.log_snr_derivative(t), schedule.time(jnp.linspace(-2, 2, 5)),
    ]  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("name", TRACED)
def test_a_traced_option_has_the_value_of_the_python_number(name):
    value, call = TRACED[name]
    expected, found = call(value), jax.jit(call)(value)
    # Logarithms and powers in float32 in place of Python's float64, and their sums.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, expected
    )


# Numbers that shapes or loops depend on.
STATIC = {
    "linear": lambda n: steps.linear(n),
    "quadratic": lambda n: steps.quadratic(n),
    "karras": lambda n: steps.karras(n, schedule=VP),
    "linear_log_snr": lambda n: steps.linear_log_snr(n, schedule=VP),
    "order": lambda n: multistep.unipc(net, KEY, SHAPE, steps=GRID, order=n, **NOISE),
    "lms order": lambda n: adams_bashforth.lms(net, KEY, SHAPE, steps=GRID, order=n, **NOISE),
    "adaptive order": lambda n: adaptive.dpm_solver_adaptive(net, KEY, SHAPE, order=n, **NOISE),
    "dpm_solver order": lambda n: singlestep.dpm_solver(
        net, KEY, SHAPE, steps=GRID, order=n, **NOISE
    ),
    "corrections": lambda n: correctors.predictor_corrector(
        net, KEY, SHAPE, steps=GRID, corrections=n, **NOISE
    ),
    "features": lambda n: learned_schedule.learned(KEY, features=n),
    "DiscreteLinear": lambda n: discrete_schedules.DiscreteLinear(beta_end=n),
    "DiscreteCosine": lambda n: discrete_schedules.DiscreteCosine(s=n),
    "Discrete": lambda n: discrete_schedules.Discrete((0.1, n)),
    "bound": lambda n: vlb.bound(
        net, X, KEY, schedule=LINEAR, target=predictions.noise, steps=n
    ),
    "samples": lambda n: importance.iwae(*VAE, X, KEY, samples=n, **NLL),
    "chunk": lambda n: importance.log_likelihood(*VAE, X, KEY, chunk=n, **NLL),
    "doubling": lambda n: consistency.doubling(3, n),
    "halving": lambda n: consistency.halving(3, n),
    "loss_history": lambda n: times.loss_history(n),
    "progressive": lambda n: progressive.progressive_distillation(
        net, net, X, KEY, schedule=VP, target=predictions.velocity, steps=n
    ),
    "levels": lambda n: quantized.finite_scalar_quantize(X, (n,)),
    "perplexity": lambda n: quantized.perplexity(jnp.array([0, 1]), n),
    "batch": lambda n: beta_tc.minibatch_weighted(n, 9),
    "translation": lambda n: augmentation.translation(X, KEY, ratio=n),
}  # fmt: skip


@pytest.mark.parametrize("name", STATIC)
def test_a_number_that_cannot_be_traced_is_named(name):
    with pytest.raises(TypeError, match=r"must be a Python number.*static") as error:
        jax.jit(STATIC[name])(3)
    assert "\n" not in str(error.value)


SAMPLERS = [
    samplers.ancestral, samplers.ddim, samplers.euler, samplers.heun, multistep.dpm_solver_2m,
    multistep.dpm_solver_3m, multistep.unipc, adams_bashforth.lms, adams_bashforth.deis,
    singlestep.dpm_solver, singlestep.dpm_solver_2s, singlestep.dpm_solver_sde,
    correctors.predictor_corrector,
]  # fmt: skip
LOSSES = {
    "denoising": lambda key=KEY, **o: diffusion.denoising(net, X, key, **NOISE | o),
    "diffusion_elbo": lambda key=KEY, **o: vdm.diffusion_elbo(
        net, X, key, decoder=vdm.gaussian_decoder,
        **{"schedule": schedules.LinearLogSNR(), "target": predictions.noise} | o,
    ),
}  # fmt: skip
GUIDED = lambda **o: guidance.classifier(net, lambda z, t: z.sum((1, 2, 3)), 1.0, **NOISE | o)  # noqa: E731
OBJECTS = {
    **{s.__name__: lambda s=s, **o: s(net, KEY, SHAPE, steps=GRID, **NOISE | o) for s in SAMPLERS},
    **LOSSES,
    "interpolant": lambda **o: interpolants.sde(
        net, KEY, SHAPE, steps=GRID, diffusion=VP.sigma, **NOISE | o
    ),
    "cfg_plus_plus": lambda **o: guided_samplers.cfg_plus_plus(
        net, net, KEY, SHAPE, scale=0.5, steps=GRID, **NOISE | o
    ),
    "projected": lambda **o: guidance.projected(net, net, 2.0, **NOISE | o),
    "adaptive": lambda **o: adaptive.dpm_solver_adaptive(net, KEY, SHAPE, **NOISE | o),
    "encode": lambda **o: samplers.encode(net, X, steps=GRID, **NOISE | o),
    "log_likelihood": lambda **o: likelihood.log_likelihood(net, X, steps=GRID, **NOISE | o),
    "classifier": GUIDED,
    "heun_step": lambda **o: consistency.heun_step(net, **NOISE | o),
    "term": lambda **o: vlb.term(net, X, KEY, jnp.array([1, 2]), steps=10, **NOISE | o),
    "bound": lambda **o: vlb.bound(net, X, KEY, steps=3, **NOISE | o),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"target": "noise"}, "target must be an object such as predictions.noise, not 'noise'"),
        ({"target": predictions.Noise}, "target must be an instance, .* not the class Noise"),
        ({"schedule": "vp"}, "schedule must be an object such as .*, not 'vp'"),
        ({"schedule": schedules.VP}, r"schedule must be an instance, .*: give VP\(...\)"),
    ],
    ids=["target name", "target class", "schedule name", "schedule class"],
)
def test_a_name_or_a_class_for_an_object_raises(name, wrong, line):
    with pytest.raises(TypeError, match=line):
        OBJECTS[name](**wrong)


WRONG = {
    "steps of 0..1000": (
        ValueError, "0..1.*divide", lambda s: s(net, KEY, SHAPE, steps=1000 * GRID, **NOISE),
    ),
    "integer steps": (
        ValueError, "floats in 0..1, got int32",
        lambda s: s(net, KEY, SHAPE, steps=jnp.array([999, 500, 0]), **NOISE),
    ),
    "traced integer steps": (
        ValueError, "floats in 0..1, got int32",
        lambda s: jax.jit(lambda g: s(net, KEY, SHAPE, steps=g, **NOISE))(jnp.array([999, 0])),
    ),
    "increasing": (
        ValueError, "decrease.*samplers.encode",
        lambda s: s(net, KEY, SHAPE, steps=GRID[::-1], **NOISE),
    ),
    "zigzag": (
        ValueError, "decrease",
        lambda s: s(net, KEY, SHAPE, steps=jnp.array([1.0, 0.2, 0.5, 0.0]), start=X, **NOISE),
    ),
    "clip": (
        TypeError, r"clip must be \(low, high\).*not True",
        lambda s: s(net, KEY, SHAPE, steps=GRID, clip=True, **NOISE),
    ),
    "clip factory": (
        TypeError, "clip returned a function",
        lambda s: s(net, KEY, SHAPE, steps=GRID, clip=thresholding.dynamic, **NOISE),
    ),
    "key": (
        TypeError, "PRNG key, such as jax.random.key.*not 0",
        lambda s: s(net, 0, SHAPE, steps=GRID, **NOISE),
    ),
}  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("name", WRONG)
def test_a_sampler_refuses_in_one_line(name, sampler):
    error, line, call = WRONG[name]
    with pytest.raises(error, match=line) as raised:
        call(sampler)
    assert "\n" not in str(raised.value)


@pytest.mark.heavy
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.__name__)
def test_traced_steps_of_0_to_1000_are_nan_and_integer_ends_are_right(sampler):
    run = jax.jit(lambda grid: sampler(net, KEY, SHAPE, steps=grid, **NOISE))
    assert bool(jnp.isnan(run(1000 * GRID)).all())
    one_step = sampler(net, KEY, SHAPE, steps=[1.0, 0.0], **NOISE)
    np.testing.assert_array_equal(sampler(net, KEY, SHAPE, steps=[1, 0], **NOISE), one_step)


def _times(t):
    return [
        lambda: LOSSES["denoising"](times=t),
        lambda: LOSSES["diffusion_elbo"](times=lambda key, n: t),
        lambda: flow.flow_matching(net, X, KEY, times=t),
        lambda: flow.interpolant_velocity(net, X, X, KEY, times=t),
        lambda: consistency.training(net, net, X, KEY, schedule=EDM, times=(t - t, t)),
        lambda: meanflow.meanflow(lambda z, r, t: z, X, KEY, times=(t - t, t)),
    ]


@pytest.mark.parametrize("loss", range(6))
def test_training_times_that_are_step_numbers_raise(loss):
    for t in (jnp.array([1, 500]), jnp.array([1.0, 500.0])):
        with pytest.raises(ValueError, match=r"in 0..1.*divide step numbers"):
            _times(t)[loss]()
    jax.tree.map(
        np.testing.assert_array_equal,
        _times(jnp.array([1, 1]))[loss](),
        _times(jnp.ones(2))[loss](),
    )


def test_traced_training_times_that_are_step_numbers_are_nan_or_raise():
    run = jax.jit(lambda t: LOSSES["denoising"](times=t))
    assert list(np.isnan(run(jnp.array([0.5, 500.0])))) == [False, True]
    with pytest.raises(ValueError, match="got int32"):
        run(jnp.array([1, 500]))
    training = lambda s, t: consistency.training(  # noqa: E731
        net, net, X, KEY, schedule=EDM, times=(s, t)
    )
    with pytest.raises(ValueError, match="the lesser first: swap"):
        training(*PAIR[::-1])
    assert bool(jnp.isnan(jax.jit(training)(*PAIR[::-1])).all())


@pytest.mark.heavy
@pytest.mark.parametrize("step", [0, 11])
def test_a_step_outside_the_process_raises_or_is_nan(step):
    def term(step):
        return vlb.term(net, X, KEY, step, schedule=LINEAR, target=predictions.noise, steps=10)

    with pytest.raises(ValueError, match=r"integers in 1..10"):
        term(jnp.array([step, 5]))
    found = jax.jit(term)(jnp.array([step, 5]))
    assert list(np.isnan(found)) == [True, False]
    np.testing.assert_allclose(found[1], term(jnp.array([1, 5]))[1], rtol=1e-5)
    with pytest.raises(ValueError, match="not times: got float32"):
        term(jnp.array([0.5, 0.6]))


OTHERS = {
    "key of a loss": ("not 0", lambda: LOSSES["denoising"](key=0)),
    "no key": ("not None", lambda: LOSSES["denoising"](key=None)),
    "key of an augmentation": ("not 0", lambda: augmentation.brightness(X, 0)),
    "key of a VAE": ("not 0", lambda: vae.elbo(*VAE, X, 0, **NLL)),
    "key of IWAE": ("not 0", lambda: importance.iwae(*VAE, X, 0, samples=2, **NLL)),
    "key of a schedule": ("not 0", lambda: learned_schedule.learned(0)),
    "array for a key": ("PRNG key", lambda: flow.flow_matching(net, X, jnp.array(0))),
    "times class": ("class LogitNormal", lambda: LOSSES["denoising"](times=times.LogitNormal)),
    "times name": ("not 'uniform'", lambda: LOSSES["denoising"](times="uniform")),
    "no pair": (
        "a pair of arrays", lambda: meanflow.meanflow(net, X, KEY, times=times.Uniform()),
    ),
    "weight factory": (
        "weight returned a function", lambda: LOSSES["denoising"](weight=weightings.min_snr),
    ),
    "coupling factory": (
        "couple returned a function|positional",
        lambda: flow.flow_matching(net, X, KEY, couple=couplings.sinkhorn),
    ),
    "interpolant class": (
        "class Interpolant",
        lambda: flow.interpolant_velocity(net, X, X, KEY, interpolant=flow.Interpolant),
    ),
    "churn number": (
        "churn must be such as",
        lambda: samplers.heun(net, KEY, SHAPE, steps=GRID, churn=40.0, **NOISE),
    ),
    "churn class": (
        "churn must be such as",
        lambda: samplers.euler(net, KEY, SHAPE, steps=GRID, churn=samplers.Churn, **NOISE),
    ),
    "game factory": (
        "base must be an object", lambda: gan.relativistic_average(gan.least_squares),
    ),
    "base class": ("class Cosine", lambda: schedules.Shifted(schedules.Cosine, 1.0)),
    "discrete class": (
        "class DiscreteLinear",
        lambda: discrete_schedules.zero_terminal_snr(discrete_schedules.DiscreteLinear),
    ),
    "log-normal class": ("class EDM", lambda: times.LogNormal(schedules.EDM)(KEY, 2)),
    "pairs class": (
        "class EDM", lambda: consistency.lognormal_pairs(9, schedule=schedules.EDM),
    ),
    "gaps class": ("class EDM", lambda: consistency.gap_pairs(0.5, schedule=schedules.EDM)),
    "boundary class": ("class EDM", lambda: consistency.boundary(net, schedule=schedules.EDM)),
    "grid class": ("class EDM", lambda: steps.karras(9, schedule=schedules.EDM)),
    "clip of the bound": (
        r"clip must be \(low, high\) or None, not True",
        lambda: vlb.term(
            net, X, KEY, jnp.array([1, 2]), schedule=LINEAR, target=predictions.noise, steps=10,
            clip=True,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_the_argument_raises_one_line(name):
    line, call = OTHERS[name]
    with pytest.raises(TypeError, match=line) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_a_network_that_returns_a_pair_is_named_in_a_loss():
    with pytest.raises(ValueError, match=r"x's shape \(2, 4, 4, 1\), got tuple"):
        diffusion.denoising(lambda z, t: (z, z), X, KEY, **NOISE)
