"""Bad input: one clear line, exit code 2, nothing overwritten; and fast help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from experiments import __main__ as list_experiments
from experiments import autoencoder_fashion, dcgan_fashion, ddpm_fashion, gan_fashion, vae_fashion
from genjax.cli.main import main
from tools import fuzz_flags

ROOT = Path(__file__).parent.parent.parent


def run(monkeypatch, capsys, *arguments, module=gan_fashion, presets=None):
    """(exit code, stderr) of an experiment's command line."""
    name = module.__name__.split(".")[-1]
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    capsys.readouterr()
    try:
        main(name, module.__doc__, module.Config(), module.build, presets)
    except SystemExit as stop:
        return stop.code, capsys.readouterr().err
    return 0, ""


@pytest.fixture
def error_of(monkeypatch, capsys):
    def error_of(*arguments, **how):
        code, output = run(monkeypatch, capsys, *arguments, **how)
        assert code == 2
        lines = [line for line in output.splitlines() if not line.startswith("Preparing")]
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0]

    return error_of


@pytest.fixture
def small(own_sets, tmp_path):
    return (
        f"--run.dir {tmp_path / 'run'} --run.steps 2 --run.batch 8 --run.samples 4 "
        f"--run.scan-steps 1 --run.devices 1 --hidden 8 --data.dir {own_sets}"
    ).split()


def snapshot(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_an_unknown_flag_suggests_the_nearest(error_of):
    assert "--hidden" in error_of("--hiden", "3")
    assert "--run.steps" in error_of("--run.step", "3")


def test_a_value_of_the_wrong_type_is_rejected(error_of):
    assert "--hidden" in error_of("--hidden", "many")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--run.every 0", "--run.every must be at least 1, not 0"),
        ("--run.samples 0", "--run.samples must be at least 1"),
        ("--run.seed -1", "--run.seed must be at least 0"),
        ("--run.devices 99", "there are 8 here"),
        ("--hidden 0", "--hidden must be at least 1, not 0"),
        ("--latent -1", "--latent must be at least 1, not -1"),
        ("--run.process 0", "need --run.distributed"),
    ],
)
def test_an_invalid_number_is_rejected_before_anything_is_written(
    error_of, small, tmp_path, flags, message
):
    assert message in error_of(*small, *flags.split())
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_lists_the_presets(error_of):
    presets = {"tutorial": dcgan_fashion.TUTORIAL}
    output = error_of("--preset", "tutorail", module=dcgan_fashion, presets=presets)
    assert "tutorial" in output


def test_an_unknown_data_set_suggests_the_nearest(error_of, small, tmp_path):
    assert "did you mean mnist" in error_of(*small, "--data.name", "mnisst")
    assert not (tmp_path / "run").exists()


def test_an_unprepared_data_set_is_rejected_without_a_try(error_of, small, no_network):
    assert "cifar10" in error_of(*small, "--data.name", "cifar10")


@pytest.mark.parametrize("kind", ["corrupt", "wide"])
def test_a_bad_image_in_a_folder_is_named(error_of, small, tmp_path, kind):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(folder / f"{i}.png")
    if kind == "corrupt":
        (folder / "bad.png").write_bytes((folder / "3.png").read_bytes()[:60])
    else:
        Image.new("L", (10_000, 10_000)).save(folder / "bad.png")
    output = error_of(*small, "--data.folder", folder, "--data.size", 8)
    assert "bad.png" in output


def test_a_batch_that_does_not_divide_over_the_devices_is_rejected(error_of, small, tmp_path):
    output = error_of(*small, "--run.devices", 8, "--run.batch", 12)
    assert "12 does not divide over 8 devices" in output
    assert not (tmp_path / "run").exists()


def test_a_run_directory_of_other_settings_or_experiment_is_left_alone(
    error_of, small, monkeypatch, capsys, tmp_path
):
    assert run(monkeypatch, capsys, *small)[0] == 0
    before = snapshot(tmp_path / "run")
    assert "--hidden was 8, now 9" in error_of(*small, "--hidden", 9)
    assert "--run.seed was 0, now 1" in error_of(*small, "--run.seed", 1)
    others = [*small[: small.index("--hidden")], *small[-2:]]
    assert "is a run of gan_fashion" in error_of(*others, module=autoencoder_fashion)
    assert "is a run of gan_fashion" in error_of("sample", tmp_path / "run", module=ddpm_fashion)
    assert snapshot(tmp_path / "run") == before


def test_a_folder_of_other_things_is_left_alone(error_of, small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    assert "not empty" in error_of(*small)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_an_unwritable_directory_is_rejected(error_of, small):
    assert "--run.dir" in error_of(*small, "--run.dir", "/proc/run")


def test_a_missing_or_damaged_run_is_rejected(error_of, tmp_path):
    assert "no run directory" in error_of("sample", tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in error_of("sample", tmp_path)
    (tmp_path / "config.json").write_text('{"experiment": "gan_fashion", "config": {"run": 3}}')
    assert "does not fit" in error_of("sample", tmp_path)


def test_settings_of_the_wrong_type_in_a_run_directory_are_rejected(
    error_of, small, monkeypatch, capsys, tmp_path
):
    assert run(monkeypatch, capsys, *small)[0] == 0
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    values["config"]["hidden"] = "__import__('os').system('true')"
    path.write_text(json.dumps(values))
    assert "hidden cannot be" in error_of("sample", tmp_path / "run")


def test_help_loads_nothing_that_only_training_needs():
    heavy = ["orbax", "tensorflow_datasets", "PIL", "grain", "tensorboardX", "genjax.run.trainer"]
    code = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        "try: runpy.run_module('experiments.dcgan_fashion', run_name='__main__')\n"
        f"except SystemExit: sys.exit(str([m for m in {heavy} if m in sys.modules] or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--preset tutorial" in done.stdout
    assert "sample" in done.stdout


@pytest.mark.parametrize(("module", "able"), [(gan_fashion, False), (vae_fashion, True)])
def test_help_names_what_the_family_can_do(module, able, capsys):
    with pytest.raises(SystemExit):
        main("x", module.__doc__, module.Config(), module.build, arguments=["--help"])
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("After training"))
    assert ("| reconstruct |" in line) == able
    assert "| evaluate |" in line  # scores of samples, of every family
    assert "sample | " in line


def test_help_of_a_command_names_what_the_experiment_can_do(capsys):
    shown = {}
    for module in (gan_fashion, vae_fashion, ddpm_fashion):
        for command in ("sample", "interpolate"):
            words = [command, "--help"]
            with pytest.raises(SystemExit):
                main("x", module.__doc__, module.Config(), module.build, arguments=words)
            shown[module, command] = capsys.readouterr().out
    assert "--trajectory" not in shown[vae_fashion, "sample"]
    assert "--sampler" not in shown[vae_fashion, "sample"]
    assert "--noises" in shown[vae_fashion, "interpolate"]
    assert "--noises" not in shown[gan_fashion, "interpolate"]
    for command in ("sample", "interpolate"):
        text = " ".join(shown[ddpm_fashion, command].replace("│", " ").split())
        assert "Scale of classifier-free guidance, where there are classes. None: as in" in text
        assert "--sampling-steps" in text
    assert "--trajectory" in shown[ddpm_fashion, "sample"]


def test_python_m_experiments_lists_them(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments"])
    list_experiments.main()
    out = capsys.readouterr().out.splitlines()
    assert max(map(len, out)) <= 80
    names = [line.strip() for line in out if line.startswith("  ") and line[2] != " "]
    assert names == fuzz_flags.experiments()
    monkeypatch.setattr(sys, "argv", ["experiments", "vae_fashon"])
    with pytest.raises(SystemExit) as stop:
        list_experiments.main()
    assert stop.value.code == 2
    assert "python -m experiments.vae_fashion" in capsys.readouterr().err
