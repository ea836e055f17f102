"""Consistency models: schedules, teachers, one step and many, smooth times, images by heart."""

import json
import shutil
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import consistency, edm
from experiments.consistency import NAME, PAPER, Config
from genjax import run
from genjax.data import ImageSpec, from_arrays
from genjax.diffusion import few_step, samplers, schedules
from genjax.errors import ConfigError
from genjax.limits import check as check_limits
from genjax.losses import consistency as losses
from genjax.run.config import as_json
from tests import families
from tests.models.test_transformer import spread

pytestmark = pytest.mark.heavy

KEY, SCHEDULE = jax.random.key(0), schedules.EDM()
FASHION, CIFAR10 = ImageSpec((28, 28, 1), 10, 6000), ImageSpec((32, 32, 3), 10, 50_000)
SPEC = ImageSpec((8, 8, 1), 3, 100)
TINY = {"channels": 4, "multipliers": (1,), "attention": ()}


def once(function, *inputs):
    """The value of a program that runs once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*inputs)


def made(**settings):
    """A family and a state of random parameters."""
    config = Config(**TINY, **settings)
    family = consistency.build(config, SPEC)
    before = family.before and jax.eval_shape(family.before.first_state, KEY, None)
    state = jax.eval_shape(family.first_state, KEY, before)
    params = spread(state.params, 0.1)
    return config, family, state.replace(params=params, ema={NAME: params[NAME]})


def test_the_paper_preset_is_that_of_geng_et_al_2024():
    family = consistency.build(PAPER, CIFAR10)
    player = family.game[NAME]
    assert (PAPER.run.steps * PAPER.run.batch, family.before.steps) == (25_600_000, 0)
    np.testing.assert_allclose(player.ema(jnp.array(100_000)), 0.9993, rtol=2e-6)
    assert float(player.learning_rate(jnp.array(5000))) == pytest.approx(1e-4)
    assert (PAPER.noise_mean, PAPER.noise_std, PAPER.data_std) == (-1.1, 2.0, 0.5)
    assert (PAPER.dropout, PAPER.augment, PAPER.first_gap, PAPER.halvings) == (0.2, 0, 0.5, 7)
    teacher = replace(edm.PAPER, classes=False, augment=0.0, dropout=0.2)
    assert PAPER.denoiser() == teacher.denoiser()


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (replace(PAPER, teacher="runs/edm"), CIFAR10),
        (Config(), FASHION),
        (Config(method="training", classes=True), FASHION),
        (Config(method="distillation", network="ncsnpp", augment=0.1), FASHION),
    ],
)
def test_the_settings_check_themselves(config, spec):
    check_limits(config)
    config.check(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"half_life": ()}, "--half-life and --lengths are both empty"),
        ({"channels": 15}, "--channels must be even"),
        ({"label_dropout": 0.2}, "--label-dropout 0.2 has no effect without --classes"),
        ({"intervals": 80}, "--intervals 80 has no effect with --method tuning"),
        ({"method": "distillation", "noise_std": 1.0}, "--noise-std 1.0 has no effect with"),
        ({"method": "distillation", "halvings": 1}, "--halvings 1 has no effect with --method dis"),
        ({"method": "training", "teacher": "x"}, "--teacher x has no effect with --method tra"),
        ({"method": "training", "teacher_steps": 9}, "--teacher-steps 9 has no effect with"),
        (
            {"method": "training", "first_intervals": 50},
            "--first-intervals 50 must be at most --intervals 40",
        ),
        ({"halvings": 900}, "--halvings 900 of the gap need more than 900 steps"),
        ({"method": "distillation", "curriculum": 9}, "--curriculum 9 has no effect with --method"),
        ({"teacher_steps": 0}, "--teacher-steps 0 with --method tuning needs --teacher"),
        ({"teacher_steps": 9, "teacher": "x"}, "--teacher-steps 9 has no effect with --teacher"),
        (
            {"teacher": "x", "run": replace(Config().run, init_from="y")},
            "--teacher and --run.init-from name two sets of weights",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_their_flags(changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        replace(Config(), **changes).check(FASHION)
    assert "\n" not in str(raised.value)


def test_a_curriculum_longer_than_the_run_is_logged(caplog):
    Config(curriculum=1000).check(FASHION)
    assert "--curriculum 1,000 is not over by --run.steps 900" in caplog.text


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "message"),
    [
        (
            "edm",
            {"channels": 32, "multipliers": (1, 2)},
            {},
            "edm was trained with --channels 32 --multipliers 1 2: give the same$",
        ),
        ("edm", {"classes": True}, {}, "was trained with --classes: give the same"),
        ("edm", {}, {"classes": True}, "was trained with --no-classes: give the same"),
        ("edm", {"data_std": 0.5}, {}, "was trained with --data-std 0.5"),
        ("edm", {"augment": 0.1}, {}, "was trained with --augment 0.1, here it is 0.0"),
        ("edm", {"half_life": (9, 99)}, {}, "keeps averages by name: give an export"),
        ("edm", {"half_life": (), "lengths": (0.1,)}, {}, "keeps averages by name"),
        ("dit", {}, {}, "is a run of dit, not of edm"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_one_line(name, theirs, ours, message, tmp_path):
    place = tmp_path / "edm"
    place.mkdir()
    values = {"experiment": name, "config": as_json(asdict(edm.Config(**theirs)))}
    (place / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=message) as raised:
        Config(teacher=str(place), **ours).check(FASHION)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"--teacher {place} ")


def pairs(monkeypatch, step, **settings):
    """The noise levels of 500 examples at a train step, and what else the loss is called with."""
    seen = {}

    def loss(*inputs, **how):
        seen.update(how, inputs=inputs)
        return jnp.zeros(2)

    for name in ("training", "distillation"):
        monkeypatch.setattr(losses, name, loss)
    x = jnp.zeros((2, 8, 8, 1))
    Config(**settings).loss("student", "teacher", x, KEY, jnp.array(step))
    return (np.float64(seen["schedule"].sigma(u)) for u in seen["times"](KEY, 500)), seen


def test_each_method_has_the_noise_levels_of_its_paper_at_each_step(monkeypatch):
    for step, gap in ((0, 0.5), (224, 0.5), (225, 0.25), (899, 0.5**4)):
        (s, t), seen = pairs(monkeypatch, step)
        assert seen["inputs"][:2] == ("student", "student")
        found = 1 - s / t
        np.testing.assert_allclose(found[t > 12], gap, rtol=2e-3)
        assert abs(np.log(t).mean() + 0.8) < 0.3  # --noise-mean, truncated at --noise-std 2
    (s, t), _ = pairs(monkeypatch, 300, curriculum=600)
    np.testing.assert_allclose((1 - s / t)[t > 12], 0.5**3, rtol=2e-3)
    for step, intervals in ((0, 10), (899, 40)):
        (s, t), _ = pairs(monkeypatch, step, method="training")
        times = [SCHEDULE.time(-2 * np.log(u)) * intervals for u in (s, t)]
        np.testing.assert_allclose(times[1] - times[0], 1, rtol=1e-2)
        np.testing.assert_allclose(times, np.round(times), atol=0.01)
    (s, t), seen = pairs(monkeypatch, 0, method="distillation", intervals=18)
    times = SCHEDULE.time(-2 * np.log(t)) * 18
    np.testing.assert_allclose(times, np.round(times), atol=0.01)
    assert seen["inputs"][1] == "student"
    a, b = jnp.ones((1, 4)), jnp.zeros((1, 4))
    assert seen["distance"](a, b) == losses.pseudo_huber(a, b)
    assert pairs(monkeypatch, 0, huber=3.0)[1]["distance"](a, b) == losses.pseudo_huber(a, b, 3.0)


def test_an_image_is_the_consistency_function_of_the_noise():
    config, family, state = made()
    keys, z = jax.random.split(KEY, 3), jax.random.normal(KEY, (3, 8, 8, 1))
    drawn = once(lambda s: family.generate(s, keys, z, None), state)
    f = config.function(config.denoiser(), state.params[NAME])
    expected = once(lambda: f(80 * z, jnp.ones(3)))
    np.testing.assert_allclose(2 * drawn - 1, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_trajectory_has_the_teacher_many_steps_and_few_from_the_same_noise():
    config, family, state = made(sampling_steps=2)
    keys, z = jax.random.split(KEY, 3), jax.random.normal(KEY, (3, 8, 8, 1))
    shown = once(lambda s: 2 * family.trajectory(s, keys, z, None) - 1, state)
    assert shown.shape == (3, 5, 8, 8, 1)  # noise, the teacher's, and of 8, 1 and 2 steps
    f = config.function(config.denoiser(), state.params[NAME])
    how = {"schedule": SCHEDULE, "steps": jnp.array([1, 0.5, 0])}
    two = once(lambda: few_step.consistency(f, keys, z.shape, start=80 * z, **how))
    np.testing.assert_allclose(shown[:, -1], two, rtol=1e-4, atol=1e-4)
    drawn = once(lambda s: family.generate(s, keys, z, None), state)
    np.testing.assert_allclose(2 * drawn - 1, two, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(shown[:, -2], once(lambda: f(80 * z, jnp.ones(3))), atol=1e-4)
    np.testing.assert_allclose(shown[:, 0], z, rtol=1e-5, atol=1e-5)
    recipe = config.recipe
    teacher = config.prediction(config.denoiser(), state.params["teacher"])
    how = {"schedule": SCHEDULE, "target": recipe.target, "steps": jnp.linspace(1, 0, 19)}
    many = once(lambda: samplers.heun(teacher, None, z.shape, start=80 * z, **how))
    np.testing.assert_allclose(shown[:, 1], many, rtol=1e-3, atol=1e-3)


IMAGES = from_arrays(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8))


def trained(module, directory, steps, **settings):
    """A run of a tiny network."""
    config = module.Config(**TINY, **settings)
    how = {"dir": str(directory), "batch": 8, "every": 2, "samples": 4, "devices": 1}
    config = replace(config, run=replace(config.run, steps=steps, **how))
    family = module.build(config, IMAGES.spec)
    return run.train(family, IMAGES, config.run, name=module.__name__.rpartition(".")[2])


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_student_starts_as_the_average_of_the_teacher():
    _, family, _ = made(teacher_steps=7, classes=True)
    assert (family.before.name, family.before.steps) == ("teacher", 7)
    before = family.before.first_state(KEY, None)
    before = before.replace(ema=spread(before.ema))
    state = family.first_state(KEY, before)
    average = before.ema["denoiser"]
    same(state.params, {NAME: average, "teacher": average})
    same(state.ema[NAME], average)
    assert list(family.game) == [NAME]  # the teacher is not trained
    assert made(method="training")[1].before is None


@pytest.mark.slow
def test_the_teacher_is_a_run_or_an_export_that_is_there(tmp_path):
    taught = trained(edm, tmp_path / "edm", 1)
    export = taught.export(tmp_path / "export")
    average = taught.state.ema["denoiser"]
    for place in (tmp_path / "edm", export):
        to = tmp_path / f"of_{place.name}"
        student = trained(consistency, to, 0, teacher=str(place), halvings=0)
        same(student.state.params, {NAME: average, "teacher": average})
        same(student.state.ema[NAME], average)
        assert json.loads((to / "config.json").read_text())["init_from"]["directory"] == str(place)
    with pytest.raises(ConfigError, match="is no run with a checkpoint to use, and no export"):
        trained(consistency, tmp_path / "none", 0, teacher=str(tmp_path / "nothing"), halvings=0)
    # Another network than the settings say is refused even where no config.json tells.
    shutil.rmtree(tmp_path / "of_edm")
    (tmp_path / "edm" / "config.json").unlink()
    with pytest.raises(ConfigError, match="holds another architecture"):
        trained(consistency, tmp_path / "of_edm", 0, teacher=str(tmp_path / "edm"), augment=0.1)


@pytest.mark.slow
def test_a_run_needs_its_teacher_no_more_once_there_is_a_checkpoint(tmp_path):
    trained(edm, tmp_path / "edm", 2)
    how = {"teacher": str(tmp_path / "edm"), "method": "distillation"}
    whole = trained(consistency, tmp_path / "whole", 4, **how)
    trained(consistency, tmp_path / "parts", 2, **how)
    shutil.rmtree(tmp_path / "edm")
    parts = trained(consistency, tmp_path / "parts", 4, **how)
    same(parts.state, whole.state)
    export = parts.export(tmp_path / "export")
    for text in (export / "README.md", export / "config.json"):
        assert str(tmp_path) not in text.read_text()
    assert json.loads((export / "config.json").read_text())["config"]["teacher"] == "edm"


def slopes(network, params):
    """Root mean squares, over images, of the derivatives of a network's output by time."""
    z, t = jax.random.normal(KEY, (64, 8, 8, 1)), jnp.linspace(0, 1, 64)

    def at(t):
        return network.apply(params, z, jnp.log(SCHEDULE.sigma(t)) / 4)

    change = once(lambda t: jax.jvp(at, (t,), (jnp.ones_like(t),))[1], t)
    return jnp.sqrt(jnp.square(change).mean((1, 2, 3)))


@pytest.mark.parametrize("network", ["ddpmpp", pytest.param("ncsnpp", marks=pytest.mark.slow)])
def test_the_network_is_smooth_in_time(network):
    module = Config(**TINY, network=network).denoiser()
    shapes = jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))
    greatest = float(slopes(module, spread(shapes, 0.3)).max())
    # NCSN++ has Fourier features of a scale of 16.
    assert greatest < 1 if network == "ddpmpp" else greatest > 10


LEARNING = {"channels": 16, "multipliers": (1, 2), "attention": (), "warm_up": 400}


@pytest.fixture(scope="module")
def teach(tmp_path_factory):
    """Trains a run of an experiment on 8x8 clothes: (module, steps, images, **settings) -> run."""
    grey = families.batches(8)["image"][..., :1].reshape(-1, 8, 8, 1)

    def teach(module, steps, count=112, **settings):
        images = from_arrays(grey[:count], test=grey[112:])
        place = tmp_path_factory.mktemp("run") / "run"
        config = module.Config(**LEARNING, **settings)
        how = {"batch": 16, "every": steps, "samples": 4, "devices": 1, "dir": str(place)}
        config = replace(config, run=replace(config.run, steps=steps, **how))
        name = module.__name__.rpartition(".")[2]
        return run.train(module.build(config, images.spec), images, config.run, name=name)

    teach.held_out = grey[112:]
    teach.teacher = teach(edm, 800)
    return teach


@pytest.mark.slow
@pytest.mark.parametrize("method", ["distillation", "tuning"])
def test_one_step_comes_near_the_many_of_its_teacher_and_stays_smooth_in_time(method, teach):
    how = {"method": method, "teacher": str(teach.teacher.directory)}
    short, long = (teach(consistency, steps, **how) for steps in (30, 900))

    def gap(of):
        scores = jax.jit(of.family.measure.scores)
        keys = jax.random.split(KEY, len(teach.held_out))
        return float(scores(of.state, keys, {"image": teach.held_out})["one_step"].mean())

    assert gap(long) < 0.5 * gap(short)
    config = Config(**LEARNING)
    found = slopes(config.denoiser(), long.state.averaged()[NAME])
    assert found.max() < 20


@pytest.mark.slow
@pytest.mark.parametrize("method", ["training", "tuning"])
def test_sixteen_images_are_learned_by_heart(method, teach):
    how = {"method": "training"} if method == "training" else {"teacher_steps": 600}
    learned = teach(consistency, 1500, 16, **how)
    row = [row for row in learned.metrics if f"{NAME}/loss" in row][-1]
    real = np.asarray(learned.images.train.source[np.arange(16)]["image"], float)
    drawn = learned.sample(32, seed=0).astype(float)
    nearest = np.abs(drawn[:, None] - real[None]).mean((2, 3, 4)).min(1)
    assert np.median(nearest) < 12  # of 255
    assert row[f"{NAME}/loss"] < 1
