"""A person's judgement of a run: the page to judge on, its key, and what the answers say."""

from __future__ import annotations

import re
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files
from genjax.data.dataset import Dataset
from genjax.errors import ConfigError
from genjax.evaluate.judgement import Judgement
from genjax.report import embedding, grids, image_sets, judging, rendering
from genjax.report.judging import Mode
from genjax.run import score_rows
from genjax.run.config import load
from genjax.run.listing import listed
from genjax.run.recorded_images import data_settings, image_spec
from genjax.train import digests

MOST_IMAGES = 2000  # on a page
HOW = "draw some first, by the command sample"
MOST_ARRAY = 1 << 30  # bytes of a sample_*.npz
_SOURCE = re.compile(r"sample_[^/]+\.npz|samples/step_[0-9]{1,18}\.png")
_ID = re.compile("[0-9a-f]{16}")


def write_page(run: Path, mode: Mode, n: int | None = None) -> tuple[Path, str]:
    """Writes a page on which a person judges images, and its key beside it.

    The images were drawn before: by the command `sample`, else at the last periodic evaluation. To
    tell real from drawn ones a coin is flipped for each place, so that whoever guesses is wrong in
    a binomial number of cases, whatever the strategy. Real ones are held-out images.

    Args:
      run: the run's directory.
      mode: "tell" or "curate".
      n: images to judge; None for 100, or as many as there are. Fewer where there are not so many.

    Returns:
      The page, and where the drawn images come from.

    Raises:
      ConfigError: where there are no images, or n is out of its limits.
    """
    if n is not None and not 1 <= n <= MOST_IMAGES:
        raise ConfigError(f"--n must be 1 to {MOST_IMAGES:,}, not {n}")
    values = load(run / "config.json")
    if values.get("export") is not None:
        raise ConfigError(f"{run} is an export, which stays as it is: judge the run")
    source = _source(run)
    drawn = _drawn(run, values, source)
    random = np.random.default_rng()  # not repeatable: a key that can be guessed is none
    order = random.permutation(len(drawn))
    if mode == "tell":
        real = Dataset(data_settings(run, values)).test
        n = min(n or 100, len(drawn), len(real))
        is_real = random.random(n) < 0.5
        images = real.batch(int(random.integers(1 << 32)), 0, n)["image"].copy()
        images[~is_real] = drawn[order[:n]][~is_real]
    else:
        n = min(n or 100, len(drawn))
        is_real, images = np.zeros(n, bool), drawn[order[:n]]
    name, stem = secrets.token_hex(8), _free(run)
    key = {
        "id": name,
        "mode": mode,
        "source": source.relative_to(run).as_posix(),
        "sha256": digests.sha256(source),
        "step": listed(run, None, run, 0).step or 0,
        "real": is_real.tolist(),
        "index": order[:n].tolist(),
    }
    command = f"python -m genjax report {run.name} --judged judgement_{name}.json"
    title = "Real or drawn?" if mode == "tell" else "Which to keep?"
    files.write_json(run / f"{stem}.key.json", key)
    page = run / f"{stem}.html"
    rendering.save(page, judging.judge_page(images, title, name, mode, command))
    return page, key["source"]


def read(run: Path, answers: Path, to: Path | None = None) -> str:
    """What the answers of a person say.

    Of real and drawn images the error rate is added to scores.jsonl. Of accepted ones the images
    are written as .npz.

    Args:
      run: the run's directory.
      answers: the file that the page saved.
      to: the .npz of accepted images; None for one in the run's directory.

    Returns:
      Lines to print.

    Raises:
      ConfigError: where the file is not of a page of this run, or holds no answer.
    """
    name, mode, given = _answers(answers)
    key, number = _key(run, name, mode)
    if len(given) > len(key["real"]):
        raise ConfigError(f"{answers} has more answers than its page had images")
    if mode == "tell":
        judgement = Judgement.of(key["real"][: len(given)], [each == "real" for each in given])
        score_rows.append(run / score_rows.NAME, key["step"], [judgement.score])
        return str(judgement)
    accepted = [i for i, each in zip(key["index"], given, strict=False) if each == "accept"]
    lines = f"{len(accepted):,} of {len(given):,} drawn images are accepted"
    if not accepted:
        return lines
    values = load(run / "config.json")
    source = run / key["source"]
    if not source.is_file() or digests.sha256(source) != key["sha256"]:
        raise ConfigError(f"{source}, whose images were judged, has changed: judge it again")
    drawn = _drawn(run, values, source)
    if max(accepted) >= len(drawn):
        raise ConfigError(f"{run} has no key for these answers: it is damaged")
    path = to or run / f"accepted_{number}.npz"  # of the same page, which may go on
    if to is not None and path.exists():
        raise ConfigError(f"{path} is there already: give another --to")
    image_sets.write_npz(path, [{"image": drawn[accepted]}], len(accepted))
    return f"{lines}\n{path}"


def _source(run: Path) -> Path:
    """The file of images that the run drew last: of the command sample, else of an evaluation."""
    if sampled := [path for path in run.glob("sample_*.npz") if path.is_file()]:
        return max(sampled, key=lambda path: path.stat().st_mtime_ns)
    found = {
        int(match[1]): path
        for path in (run / "samples").glob("step_*.png")
        if (match := re.fullmatch(r"step_([0-9]{1,18})\.png", path.name))
    }
    if not found:
        raise ConfigError(f"{run} has no drawn images: {HOW}")
    return found[max(found)]


def _drawn(run: Path, values: Any, path: Path) -> np.ndarray:
    shape = image_spec(run, values).shape
    if path.suffix == ".npz":
        return _of_archive(path, shape)
    settings = values.get("config", {}).get("run")
    n = settings.get("samples") if isinstance(settings, dict) else None
    try:
        n = n if isinstance(n, int) and 0 < n < 1 << 16 else 64
        return grids.tiles(embedding.read(path), n, shape)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used ({error}): {HOW}") from None


def _of_archive(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("images.npy").file_size > MOST_ARRAY:
                raise ConfigError(f"{path} is too large to judge: draw fewer images")
        with np.load(path) as arrays:
            images: np.ndarray = arrays["images"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be used: {error}") from None
    if images.dtype != np.uint8 or images.shape[1:] != tuple(shape) or not len(images):
        raise ConfigError(f"{path} does not hold images of this run, {shape}")
    return images


def _free(run: Path) -> str:
    number = 1
    while (run / f"judge_{number}.html").exists() or (run / f"judge_{number}.key.json").exists():
        number += 1
    return f"judge_{number}"


def _answers(path: Path) -> tuple[str, Mode, list[str]]:
    try:
        values = files.read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    name, given = values.get("id"), values.get("answers")
    mode = next((each for each in judging.CHOICES if each == values.get("mode")), None)
    words = {choice.answer for choice in judging.CHOICES[mode]} if mode else set()
    if (
        mode is None
        or not (isinstance(name, str) and _ID.fullmatch(name) and isinstance(given, list))
        or not all(isinstance(each, str) and each in words for each in given)
    ):
        raise ConfigError(f"{path} is no file that a page of --judge or --curate saved")
    if not given:
        raise ConfigError(f"{path} holds no answer")
    return name, mode, given


def _key(run: Path, name: str, mode: Mode) -> tuple[dict[str, Any], str]:
    """The key of a page, and its number."""
    for path in sorted(run.glob("judge_*.key.json")):
        try:
            key = files.read_json(path)
        except (OSError, ValueError):
            continue
        if key.get("id") == name and key.get("mode") == mode and _fits(key):
            return key, path.name.split(".")[0].removeprefix("judge_")
    raise ConfigError(f"{run} has no key for these answers: they are of a page of another run")


def _fits(key: dict[str, Any]) -> bool:
    real, index = key.get("real"), key.get("index")
    return (
        isinstance(real, list)
        and isinstance(index, list)
        and len(real) == len(index)
        and all(isinstance(each, bool) for each in real)
        and all(map(files.is_count, index))
        and files.is_count(key.get("step"))
        and isinstance(key.get("source"), str)
        and _SOURCE.fullmatch(key["source"]) is not None
    )
