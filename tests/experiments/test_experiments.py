"""Every experiment, end to end on the embedded data: train, stop, resume, use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import (
    autoencoder_fashion,
    classifier,
    consistency,
    dcgan_fashion,
    ddpm_cifar10,
    ddpm_fashion,
    ddpm_mnist,
    dit,
    edm,
    flow_cifar10,
    gan_fashion,
    iwae_mnist,
    latent_diffusion,
    latent_shapes,
    made,
    meanflow,
    pixelcnn,
    r3gan,
    restore_fashion,
    shortcut,
    stylegan,
    vae_cifar10,
    vae_fashion,
    vdvae,
    vqvae,
)
from genjax.cli.main import main
from genjax.data import ImageSpec
from genjax.files import read_rows
from genjax.run import mixture
from tests import tiny
from tests.checkpointed import arrays
from tests.logged import metrics

ROOT = Path(__file__).parents[2]
EXPERIMENTS = {
    "autoencoder_fashion": (autoencoder_fashion, ""),
    "autoencoder_fashion conv": (autoencoder_fashion, "--conv"),
    "vae_fashion": (vae_fashion, "--warm-up 3"),
    "vae_fashion conv": (vae_fashion, "--conv"),
    "vae_fashion classes": (vae_fashion, "--classes"),
    "gan_fashion": (gan_fashion, ""),
    "gan_fashion classes": (gan_fashion, "--classes --augment ada"),
    "dcgan_fashion": (dcgan_fashion, "--widths 16 8 8"),
    "dcgan_fashion classes": (dcgan_fashion, "--widths 16 8 8 --classes --spectral-norm"),
    "ddpm_fashion": (
        ddpm_fashion,
        "--channels 8 --multipliers 1 1 --blocks 1 --attention 14 --sampling-steps 2 --classes "
        "--levels 25",
    ),
    "edm": (
        edm,
        "--channels 8 --multipliers 1 1 --attention 14 --sampling-steps 2 --classes --guidance 2",
    ),
    "dit": (
        dit,
        "--width 8 --depth 2 --heads 2 --block dit --output velocity --skips --classes "
        "--sampler euler --sampling-steps 2",
    ),
    "made": (made, "--widths 16 --classes"),
    "pixelcnn": (
        pixelcnn,
        "--data.size 8 --channels 4 --depth 2 --mixture 2 --dropout 0.1 --classes",
    ),
    "vdvae": (
        vdvae,
        "--channels 8 --bottleneck 4 --latent 2 --encoder-blocks 0 1 1 1 --decoder-blocks 1 1 1 1 "
        "--mixture 2 --classes --temperature 0.8",
    ),
    "meanflow": (meanflow, "--width 8 --depth 2 --heads 2 --classes"),
    "vqvae": (
        vqvae,
        "--data.size 8 --autoencoder.steps 2 --autoencoder.channels 8 --autoencoder.blocks 1 "
        "--width 16 --depth 1 --heads 2 --warm-up 0 --decay None --classes --top-k 5",
    ),
    "latent_diffusion": (
        latent_diffusion,
        "--data.size 16 --autoencoder.steps 2 --autoencoder.channels 8 --autoencoder.multipliers "
        "1 2 --autoencoder.critic --autoencoder.critic-start 1 --autoencoder.critic-layers 2 "
        "--autoencoder.measured 16 --channels 8 --multipliers 1 --attention --warm-up 0 --decay "
        "None --classes --sampling-steps 2 --guidance 2",
    ),
    "consistency": (
        consistency,
        "--channels 8 --multipliers 1 1 --attention --classes --sampling-steps 2 --teacher-steps 2 "
        "--halvings 0",
    ),
    "latent_shapes": (
        latent_shapes,
        "--autoencoder-steps 2 --widths 8 8 8 --width 16 --blocks 1 --sampling-steps 2",
    ),
    "restore_fashion": (
        restore_fashion,
        "--channels 8 --multipliers 1 --attention --sampling-steps 2 --task inpaint",
    ),
    "restore_fashion vae": (
        restore_fashion,
        "--channels 8 --multipliers 1 --attention --task denoise --model vae",
    ),
}
MEASURED = {"vae_fashion", "ddpm_fashion", "edm", "latent_diffusion", "made", "vqvae"}
MEASURED |= {"pixelcnn"}
# Only training and evaluation of these: the commands that use a run are the same for all.
BRIEF = {
    "classifier": (classifier, "--widths 4 --features 8 --flip --shift 0.1"),
    "ddpm_fashion": EXPERIMENTS["ddpm_fashion"],
    "edm": EXPERIMENTS["edm"],
    "restore_fashion vae": EXPERIMENTS["restore_fashion vae"],
    "dit": (
        dit,
        "--data.name shapes64 --data.size 8 --width 8 --depth 2 --heads 2 --bottleneck 4 --classes "
        "--context 2 --sampling-steps 2 --warm-up 2 --compute bfloat16 --remat",
    ),
    "r3gan": (
        r3gan,
        "--data.name shapes64 --data.size 4 --latent 4 --widths 4 --group 4 --augment ada",
    ),
    "stylegan": (
        stylegan,
        "--data.name shapes64 --data.size 4 --latent 4 --features 4 --widths 4 --path-length 1 "
        "--generator-every 2",
    ),
    "made": EXPERIMENTS["made"],
    "pixelcnn": (pixelcnn, "--data.size 8 --binary --channels 4 --depth 1"),
    "meanflow": EXPERIMENTS["meanflow"],
    "consistency": EXPERIMENTS["consistency"],
    "shortcut": (shortcut, "--width 8 --depth 2 --heads 2 --classes --sampling-steps 2"),
    "vqvae": EXPERIMENTS["vqvae"],
    "iwae_mnist": (iwae_mnist, "--data.name fashion_mnist_6k --dynamic --layers 2 --k 2"),
    "vdvae": (
        vdvae,
        "--data.name shapes64 --data.size 8 --channels 8 --bottleneck 4 --latent 2 --pooling 2 "
        "--encoder-blocks 0 1 --decoder-blocks 1 1 --mixture 2",
    ),
    "vae_cifar10": (
        vae_cifar10,
        "--data.name shapes64 --data.size 8 --widths 8 8 --latent 4 --mixture 2",
    ),
    "flow_cifar10": (
        flow_cifar10,
        "--data.name shapes64 --data.size 8 --channels 8 --multipliers 1 --blocks 1 --groups 4 "
        "--attention 8 --sampling-steps 2 --warm-up 2 --compute bfloat16 --remat",
    ),
}


JUDGED_BY_SAMPLES = {r3gan, stylegan}  # without a measure of their own
# Of these there are tests of the same networks, or of smaller ones.
LONG_TO_BUILD = {*BRIEF} - {"classifier"}


def command(monkeypatch, module, *arguments):
    """The experiment's command line, in this process."""
    name = module.__name__.split(".")[-1]
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    presets = {"paper": module.BACKGROUND} if hasattr(module, "BACKGROUND") else None
    main(name, module.__doc__, module.Config(), module.build, presets)


def flags(directory, own_sets, steps):
    return (
        f"--run.dir {directory} --run.steps {steps} --run.every 2 --run.batch 8 --run.samples 4 "
        f"--run.scan-steps 1 --run.devices 2 --data.dir {own_sets}"
    ).split()


# Those whose commands are tested with another network as well.
@pytest.mark.parametrize(
    "experiment",
    [e if e == "vae_fashion" else pytest.param(e, marks=pytest.mark.slow) for e in EXPERIMENTS],
)
def test_an_experiment_trains_resumes_exactly_and_runs_all_commands(
    experiment, tmp_path, own_sets, monkeypatch, capsys
):
    monkeypatch.setattr(mixture, "CODES", 200)
    module, small = EXPERIMENTS[experiment]
    small = small.split()
    uninterrupted, parts = tmp_path / "uninterrupted", tmp_path / "parts"
    command(monkeypatch, module, *flags(uninterrupted, own_sets, 4), *small)
    command(monkeypatch, module, *flags(parts, own_sets, 2), *small)
    capsys.readouterr()
    command(monkeypatch, module, *flags(parts, own_sets, 4), *small)
    assert "resumed at step 2 of 4" in capsys.readouterr().out

    jax.tree.map(np.testing.assert_array_equal, arrays(uninterrupted), arrays(parts))
    rows = metrics(uninterrupted)
    assert rows == metrics(parts)
    assert rows[-1]["step"] == 4
    assert any(name.startswith("test/") for name in rows[-1])
    assert list((parts / "tensorboard").glob("events*"))
    grid = np.asarray(Image.open(parts / "samples" / "step_4.png"))
    assert grid.ndim == 3
    assert len(np.unique(grid)) > (1 if experiment == "made" else 2)  # black, white, more

    # As many images as in a run's grid, so that one program draws all of them.
    command(monkeypatch, module, "sample", parts, "--n", "4", "--seed", "1")
    drawn = np.load(parts / "sample_1.npz")["images"]
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] == 4
    command(monkeypatch, module, "export", parts, "--to", tmp_path / "export")
    again = ["sample", tmp_path / "export", "--n", "4", "--seed", "1", "--to", tmp_path / "to"]
    command(monkeypatch, module, *again)
    again = np.load(tmp_path / "to" / "sample_1.npz")["images"]
    np.testing.assert_array_equal(again, drawn)
    command(monkeypatch, module, "sample", parts, "--n", "4", "--seed", "1", "--best")
    between = ["interpolate", parts, "--pairs", "2", "--steps", "2"]
    if experiment in ("made", "pixelcnn", "vqvae"):  # numbers in 0..1 that decide what is drawn
        with pytest.raises(SystemExit):
            command(monkeypatch, module, *between)
        assert "not drawn from N(0, I)" in capsys.readouterr().err
    else:
        command(monkeypatch, module, *between)
        assert (parts / "interpolate_0.png").exists()
    diffuses = experiment in (
        "ddpm_fashion",
        "dit",
        "edm",
        "latent_diffusion",
        "latent_shapes",
        "meanflow",
    )
    if experiment == "latent_shapes":  # the samplers of a U-Net take long to compile
        check_sampling(monkeypatch, capsys, module, parts, drawn)
    reconstructs = diffuses or experiment == "vdvae"
    if reconstructs or (parts / "samples" / "reconstructions_4.png").exists():
        command(monkeypatch, module, "reconstruct", parts, "--n", "4")
        assert "mean squared error" in capsys.readouterr().out
    else:
        with pytest.raises(SystemExit) as stop:
            command(monkeypatch, module, "reconstruct", parts)
        assert stop.value.code == 2
    if experiment in MEASURED:
        check_evaluation(monkeypatch, capsys, module, parts, 4)
    decoder = ["--solver", "maximum", *(["--label", "1"] if "--classes" in small else [])]
    check_edit(monkeypatch, capsys, module, parts, [] if diffuses else decoder)


def check_edit(monkeypatch, capsys, module, directory, solver):
    """Half of four held-out images is filled in, by a family that knows pixels."""
    words = ["edit", directory, "--hide", "left", "--n", "2", *solver]
    refusals = {"latent_": "this family denoises codes", "restore": "latents of this family"}
    refusals["made"] = refusals["pixelcnn"] = refusals["vqvae"] = refusals["restore"]
    name = module.__name__.split(".")[-1]
    said = next((said for part, said in refusals.items() if part in name), None)
    if said is not None:
        with pytest.raises(SystemExit):
            command(monkeypatch, module, *words)
        assert said in capsys.readouterr().err
        return
    command(monkeypatch, module, *words)
    assert "filled in: the left half" in capsys.readouterr().out
    assert len(list((directory / "edit_left_0").glob("*.png"))) == 8
    assert (directory / "edit_left_0.png").exists()


def check_sampling(monkeypatch, capsys, module, directory, drawn):
    """Another sampler than the run's, and the way from the noise."""
    before = (directory / "config.json").read_bytes()
    words = ["sample", directory, "--n", "4", "--seed", "1"]
    command(monkeypatch, module, *words, "--sampler", "unipc", "--spacing", "log_snr", "--files")
    files = sorted((directory / "sample_1").glob("*.png"))
    other = np.stack([np.asarray(Image.open(path)).reshape(drawn.shape[1:]) for path in files])
    assert len(other) == 4
    assert (other != drawn).any()
    command(monkeypatch, module, *words, "--trajectory")
    np.testing.assert_array_equal(np.load(directory / "sample_1.npz")["images"], drawn)
    with Image.open(directory / "sample_1_trajectory.gif") as gif:
        assert gif.n_frames == 3  # the noise and two steps
    strip = np.asarray(Image.open(directory / "sample_1_trajectory.png"))
    zoom = max(1, 64 // drawn.shape[1])
    for i, image in enumerate(drawn):
        corner = 2 + i * (zoom * drawn.shape[1] + 2), 2 + 2 * (zoom * drawn.shape[2] + 2)
        shown = strip[corner[0] :: zoom, corner[1] :: zoom][: drawn.shape[1], : drawn.shape[2]]
        np.testing.assert_array_equal(shown, np.broadcast_to(image, shown.shape))
    with pytest.raises(SystemExit):
        command(monkeypatch, module, *words, "--sampler", "unipc", "--eta", "0.5")
    assert "--eta 0.5 has no effect on --sampler unipc" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command(monkeypatch, module, "reconstruct", directory, "--sampler", "ancestral")
    assert "such as --sampler ddim" in capsys.readouterr().err
    assert (directory / "config.json").read_bytes() == before


def check_evaluation(monkeypatch, capsys, module, directory, step):
    command(monkeypatch, module, "evaluate", directory, "--n", "3", "--seed", "1")
    output = capsys.readouterr().out
    evaluation = json.loads((directory / "evaluation.json").read_text())
    assert (evaluation["n"], evaluation["seed"], evaluation["step"]) == (3, 1, step)
    for name, score in evaluation["scores"].items():
        assert np.isfinite([score["value"], score["error"]]).all()
        assert f"\n{name} " in output


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(e, marks=pytest.mark.slow if e in LONG_TO_BUILD else ()) for e in BRIEF],
)
def test_an_experiment_trains_and_can_be_evaluated(
    experiment, tmp_path, own_sets, monkeypatch, capsys
):
    module, small = BRIEF[experiment]
    command(monkeypatch, module, *flags(tmp_path / "run", own_sets, 2), *small.split())
    if module in JUDGED_BY_SAMPLES:
        command(monkeypatch, module, "sample", tmp_path / "run", "--n", "4", "--seed", "1")
        assert np.load(tmp_path / "run" / "sample_1.npz")["images"].shape[0] == 4
        with pytest.raises(SystemExit):
            command(monkeypatch, module, "evaluate", tmp_path / "run")
        assert "give --scores" in capsys.readouterr().err
        return
    check_evaluation(monkeypatch, capsys, module, tmp_path / "run", 2)


@pytest.mark.parametrize("experiment", [ddpm_cifar10, flow_cifar10])
def test_the_cifar10_network_has_the_size_of_the_paper(experiment):
    family = experiment.build(experiment.Config(), ImageSpec((32, 32, 3), 10, 50_000))
    params, _ = jax.eval_shape(lambda key: family.init(key, None), jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert round(count / 1e6, 1) == 35.7  # Ho et al. 2020, section 4


@pytest.mark.parametrize(
    ("experiment", "shape"), [(ddpm_mnist, (28, 28, 1)), (ddpm_cifar10, (32, 32, 3))]
)
def test_the_full_size_loss_accepts_the_images_of_its_data_set(experiment, shape):
    family = experiment.build(experiment.Config(), ImageSpec(shape, 10, 50_000))
    key = jax.random.key(0)
    params, _ = jax.eval_shape(lambda key: family.init(key, None), key)
    batch = {"image": jax.ShapeDtypeStruct((4, *shape), np.uint8)}
    loss = family.game["unet"].loss
    value, _ = jax.eval_shape(
        lambda params, batch: loss(params, None, jax.random.split(key, 4), batch), params, batch
    )
    assert value.shape == ()


LEARNT = {
    # Scores on held-out images that no untrained or collapsed model reaches: the error of the best
    # constant image is 0.086, its Bernoulli bound 401 nats; the untrained U-Net's error is 0.23.
    "autoencoder_fashion": (autoencoder_fashion.Config(), 600, "mse", 0.03),
    "vae_fashion": (vae_fashion.Config(), 600, "negative_elbo", 290),
    "gan_fashion": (gan_fashion.Config(), 1500, "sliced_wasserstein", 0.2),
    "ddpm_fashion": (
        ddpm_fashion.Config(channels=8, multipliers=(1, 2), warm_up=20, sampling_steps=2),
        150,
        "mse",
        0.12,
    ),
    "edm": (
        edm.Config(channels=8, multipliers=(1, 2), warm_up=640, sampling_steps=2),
        150,
        "mse",
        0.4,
    ),
    # The untrained network's error is 1 + the mean square of a pixel, 1.65.
    "dit": (
        dit.Config(width=64, depth=2, output="velocity", warm_up=20, sampling_steps=2),
        300,
        "mse",
        0.8,
    ),
}


def test_a_run_of_zero_steps_succeeds(tmp_path, own_sets, capsys):
    tiny.trained(vae_fashion, vae_fashion.Config(), tmp_path / "run", own_sets, steps=0)
    assert "already at step 0 of 0" in capsys.readouterr().out


def score(experiment, config, directory, own_sets, name, steps, every):
    module = EXPERIMENTS[experiment][0]
    tiny.trained(module, config, directory / "run", own_sets, steps=steps, every=every)
    return read_rows(directory / "run" / "metrics.jsonl")[-1][f"test/{name}"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", LEARNT)
def test_an_experiment_learns(experiment, tmp_path, own_sets):
    config, steps, name, bound = LEARNT[experiment]
    assert score(experiment, config, tmp_path, own_sets, name, steps, steps) < bound


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "name", "bound"),
    [
        ("ddpm_fashion", "mse", 0.045),
        ("dit", "mse", 0.95),
        ("edm", "mse", 0.22),
        ("dcgan_fashion", "sliced_wasserstein", 0.09),
    ],
)
def test_the_default_run_reaches_the_score_of_the_readme(
    experiment, name, bound, tmp_path, own_sets
):
    words = ["-m", f"experiments.{experiment}", "--run.dir", tmp_path / "run"]
    # A process of its own, as a user's: with the simulated devices of the tests it takes five times
    # as long.
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PJRT_NPROC")}
    subprocess.run(
        [sys.executable, *words, "--data.dir", own_sets], check=True, env=environment, cwd=ROOT
    )
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if f"test/{name}" in row]
    assert rows[-1][f"test/{name}"] < bound
