"""The model card of an export, in the layout of the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genjax import files
from genjax.data.settings import ARRAYS
from genjax.run import history
from genjax.train.window import TIMINGS

LIMITS = """\
- It knows what its data show and nothing else. What is rare there is rare in its samples, what is
  missing is missing, and every slant of the data (whom and what they show, how they were chosen
  and labelled) comes back in the samples. No filter was added.
- It can give back training images, whole or in part, the more so the fewer they were and the longer
  it was trained. This was not measured here. Before publishing samples, or these weights, of
  private images compare samples with their nearest training images.
"""

# What the numbers do not say: of an evaluation, and of a run that was not evaluated.
EVALUATED = """\
- The scores with ± are means over {n} images with their standard error, which covers the choice of
  images but not another seed of training. The metrics of the run have no error bars. Neither
  measures how good or how varied samples look.
"""
NOT_EVALUATED = """\
- The scores above are of one run with one seed, on at most 1,000 held-out images, without error
  bars. They do not measure how good or how varied samples look.
"""

CLASSIFIER_LIMITS = """\
- It knows the classes of its data and no others: it gives every image one of them, and its stated
  probabilities are of images like those. Its errors differ between classes, and what it counts in
  other images has to be corrected for them: `evaluate` measures the confusion.
"""

IMAGES = {"samples.png": "Samples", "reconstructions.png": "Held-out images, each above its copy"}

CLASSIFIER_USE = """\
```python
from genjax import run

network = run.load_classifier({target})
features, logits = network(batches), network.all_logits(batches)  # of uint8 [n, H, W, C] each
```
"""

FIRST = """\
Where the run kept a moving average of parameters, these are the
average."""
CHOSEN = """\
They are its moving average `{}`;
results below were measured as the run goes on and by `evaluate`, maybe of another one."""

TEMPLATE = """\
---
{front}
---

# {name}

{what}

{parameters} parameters, arrays without any code, as one run had learned them by step
{step} of {steps}, seed {seed}. {average}

{shown}## Use

With genjax {version} (`pip install genjax-vision`) and the code of the experiment:

{use}
or in Python, as plain arrays:

```python
from genjax import run

config, weights = run.load_weights({target})  # weights["params"], weights["variables"]
```

## Data

{count} images {shape}{classes}: the {source}, split `train`, fingerprint {fingerprint}.
What starts with `test/` below was measured on its split `test`.

## Results

{results}
## Training

{train}{history}

Settings, complete:

```json
{settings}
```

## Limits

{limits}
## Licence

{permission} The licence of the data may bind what is made from them, too.
"""


def train_flags(config: Any, default: Any, prefix: str = "") -> str:
    """The command-line flags that train with some settings.

    Args:
      config: the settings, a dataclass.
      default: those of no flags.
      prefix: of the flags' names.

    Returns:
      The flags, quoted for a shell.
    """
    flags: list[str] = []
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        flag = field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            flags.append(train_flags(value, usual, f"{prefix}{flag}."))
        elif value != usual:
            flags += flag_words(f"{prefix}{flag}", value)
    return " ".join(filter(None, flags))


def flag_words(flag: str, value: Any) -> list[str]:
    """The words of a command line that set one flag.

    Args:
      flag: its name without dashes, that of its section before it.
      value: a plain value.

    Returns:
      The flag and its values, quoted for a shell.
    """
    if isinstance(value, bool):
        section, dot, name = flag.rpartition(".")
        return [f"--{section}{dot}{name if value else f'no-{name}'}"]
    values = value if isinstance(value, tuple) else [value]
    return [f"--{flag}", *(shlex.quote(str(v)) for v in values)]


def latest(path: Path, step: int) -> dict[str, tuple[int, float]]:
    """The last value of each metric up to a step, but for learning rates and timings.

    Args:
      path: of metrics.jsonl.
      step: the last that counts.

    Returns:
      {name: (step, value)}.
    """
    found: dict[str, tuple[int, float]] = {}
    for row in files.read_rows(path, keep=is_number):
        if row["step"] <= step:
            found |= {k: (row["step"], v) for k, v in row.items() if _is_result(k)}
    return found


def _is_result(name: str) -> bool:
    return name not in ("step", *TIMINGS) and not name.endswith("/learning_rate")


def write(
    *,
    values: dict[str, Any],
    document: str,
    target: str,
    rows: dict[str, tuple[int, float]],
    evaluation: dict[str, Any] | None,
    shown: Sequence[str],
    makes_images: bool,
    parameters: int,
    program: str | None,
    train_flags: str,
) -> str:
    """The text of a model card.

    Args:
      values: what the export's config.json will hold.
      document: what the model is; a code block in it and what follows are omitted.
      target: name of the exported folder.
      rows: see `latest`.
      evaluation: see `scores`.
      shown: which of `IMAGES` lie in the export.
      makes_images: whether the model does; else it classifies them.
      parameters: how many.
      program: what starts the run's program on a command line; None for a run from Python.
      train_flags: its flags.

    Returns:
      Markdown.
    """
    name, images, about = values["experiment"], values["images"], values["export"]
    settings = values["config"]["run"]
    height, width, channels = images["shape"]
    permission = (
        "No licence was given for these weights: ask whoever published them before you use them."
        if about["license"] == "unknown"
        else f"{about['license']}, as given by whoever exported these weights."
    )
    limits, use = CLASSIFIER_LIMITS, CLASSIFIER_USE.format(target=json.dumps(target))
    if makes_images:
        found = EVALUATED.format(n=f"{evaluation['n']:,}") if evaluation else NOT_EVALUATED
        limits, use = LIMITS + found, _use(program, target)
    return TEMPLATE.format(
        front=_front_matter(values, makes_images),
        name=name,
        what=document.partition("\n\n    ")[0].strip(),
        parameters=f"{parameters:,}",
        step=f"{about['step']:,}",
        steps=f"{settings['steps']:,}",
        seed=settings["seed"],
        average=CHOSEN.format(about["average"]) if about["average"] else FIRST,
        version=values["genjax"],
        use=use,
        target=json.dumps(target),
        count=f"{images['count']:,}",
        shape=f"{height}x{width}x{channels}",
        classes=f" in {images['classes']} classes" if images["classes"] else "",
        source=_source(values["config"]["data"]),
        fingerprint=_code(images["fingerprint"]),
        shown="".join(f"![{IMAGES[name]}]({name})\n\n" for name in shown),
        results=_scored(evaluation) + _table(rows) if evaluation else _table(rows),
        train=f"```\n{program} {train_flags}".rstrip() + "\n```" if program else "From Python.",
        history=history.in_words(values),
        settings=json.dumps(values["config"], indent=2),
        limits=limits,
        permission=permission,
    )


def _front_matter(values: dict[str, Any], makes_images: bool) -> str:
    task = "image-generation" if makes_images else "image-classification"
    data = values["config"]["data"]
    public_set = not data.get("folder") and data["name"] != ARRAYS
    matter = {
        "license": values["export"]["license"],
        "library_name": "genjax",
        "pipeline_tag": f"unconditional-{task}" if makes_images else task,
        "tags": ["jax", "flax", task, values["experiment"]],
        **({"datasets": [data["name"]]} if public_set else {}),
    }
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in matter.items())


def _source(data: dict[str, Any]) -> str:
    if data.get("folder"):
        return f"folder {_code(data['folder'])}"
    return "arrays" if data["name"] == ARRAYS else f"TFDS set {_code(data['name'])}"


def _use(program: str | None, target: str) -> str:
    if program:
        return f"```\n{program} sample {shlex.quote(target)} --n 16\n```\n"
    return f"""\
```python
from genjax import run

images = run.load({json.dumps(target)}, family).sample(16)  # family: the one that was trained
```
"""


def is_number(value: Any) -> bool:
    """Whether a value of a row of metrics.jsonl is a metric or a step.

    Args:
      value: anything.

    Returns:
      True for a float or a count.
    """
    return type(value) is float or files.is_count(value)


def scores(path: Path, experiment: str, step: int) -> dict[str, Any] | None:
    """What `evaluate` found of a step, where it did.

    Args:
      path: of evaluation.json, which may be a stranger's.
      experiment: name of the run's.
      step: of the weights.

    Returns:
      {"scores": {name: {"value", "error", "unit"}}, "n", "of", "seed", "split"}; None where the
      file is of something else, or of none of this.
    """
    try:
        found = files.read_json(path)
    except (OSError, ValueError):
        return None
    named = found.get("scores")
    fits = (
        (found.get("experiment"), found.get("step")) == (experiment, step)
        and all(files.is_count(found.get(name)) for name in ("n", "of", "seed"))
        and isinstance(named, dict)
        and named
        and all(
            isinstance(score, dict) and all(type(score.get(k)) is float for k in ("value", "error"))
            for score in named.values()
        )
    )
    return found if fits else None


def _scored(found: dict[str, Any]) -> str:
    which = "All" if found["n"] == found["of"] else f"{found['n']:,} random ones of the"
    lines = [
        f"{which} {found['of']:,} images of split {_code(found.get('split'))}, seed "
        f"{found['seed']}, mean ± standard error:",
        "",
        "| score | value | unit |",
        "|---|---|---|",
    ]
    for name, score in found["scores"].items():
        value = f"{score['value']:.5g} ± {score['error']:.2g}"
        lines.append(f"| {_code(name)} | {value} | {_code(score.get('unit'))} |")
    return "\n".join([*lines, "", "Metrics of the run:", "", ""])


def _table(rows: dict[str, tuple[int, float]]) -> str:
    if not rows:
        return "The run has written no metrics.\n"
    lines = ["| metric | value | at step |", "|---|---|---|"]
    # What was measured on held-out images first.
    for name in sorted(rows, key=lambda name: (not name.startswith("test/"), name)):
        step, value = rows[name]
        shown = f"{value:.5g}" if math.isfinite(value) else str(value)
        lines.append(f"| {_code(name)} | {shown} | {step:,} |")
    return "\n".join([*lines, ""])


def _code(text: Any) -> str:
    """Text of a run directory as Markdown code: nothing in it is markup."""
    plain = "".join(c if c.isprintable() and c not in "`|" else "?" for c in str(text))
    return f"`{plain}`"
