"""The model card of an export, in the layout of the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from pathlib import Path
from typing import Any

from genjax.cli.rows import read

LIMITS = """\
- It knows what its data show and nothing else. What is rare there is rare in its samples, what is
  missing is missing, and every slant of the data (whom and what they show, how they were chosen
  and labelled) comes back in the samples. No filter was added.
- It can give back training images, whole or in part, the more so the fewer they were and the longer
  it was trained. This was not measured here. Before publishing samples, or these weights, of
  private images compare samples with their nearest training images.
- The scores above are of one run with one seed, on at most 1,000 held-out images, without error
  bars. They do not measure how good or how varied samples look.
"""


def command(name: str, config: Any, default: Any) -> str:
    """The command line that trains with these settings."""
    return " ".join([f"python -m experiments.{name}", *_flags(config, default)])


def _flags(config: Any, default: Any, prefix: str = "") -> list[str]:
    flags: list[str] = []
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        flag = field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            flags += _flags(value, usual, f"{prefix}{flag}.")
        elif value != usual:
            if isinstance(value, bool):
                flags.append(f"--{prefix}{flag if value else f'no-{flag}'}")
            else:
                values = value if isinstance(value, tuple) else [value]
                flags += [f"--{prefix}{flag}", *(shlex.quote(str(v)) for v in values)]
    return flags


def metrics(path: Path, step: int) -> dict[str, tuple[int, float]]:
    """{name: (step, value)}, of each number the last that was written up to a step."""
    found: dict[str, tuple[int, float]] = {}
    for row in read(path):
        if row["step"] <= step:
            found |= {k: (row["step"], v) for k, v in row.items() if k != "step"}
    return found


def write(
    *,
    values: dict[str, Any],
    config: Any,
    default: Any,
    document: str,
    target: str,
    rows: dict[str, tuple[int, float]],
    parameters: int,
) -> str:
    """The card's text.

    values: what config.json will hold. config, default: the run's settings and the experiment's.
    document: the experiment's docstring. target: the name of the exported folder. rows: see
    `metrics`.
    """
    name, images, about = values["experiment"], values["images"], values["export"]
    data = config.data
    source = f"folder {_code(data.folder)}" if data.folder else f"TFDS set {_code(data.name)}"
    height, width, channels = images["shape"]
    licence = about["license"]
    said = (
        "No licence was given for these weights: ask whoever published them before you use them."
        if licence == "unknown"
        else f"{licence}, as given by whoever exported these weights."
    )
    front = {
        "license": licence,
        "library_name": "genjax",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["jax", "flax", "image-generation", name],
        **({} if data.folder else {"datasets": [data.name]}),
    }
    matter = "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
    classes = f" in {images['classes']} classes" if images["classes"] else ""
    # Without what the default run takes and gives.
    what = document.partition("\n\n    ")[0].strip()
    train = command(name, config, default)
    return f"""\
---
{matter}
---

# {name}

{what}

{parameters:,} parameters, arrays without any code, as one run had learnt them by step
{about["step"]:,} of {config.run.steps:,}, seed {config.run.seed}. Where the run kept a moving
average of parameters, these are the average.

## Use

With genjax {values["genjax"]} (`pip install genjax-vision`) in a checkout of its experiments:

```
python -m experiments.{name} sample {shlex.quote(target)} --n 16
```

or in Python, as plain arrays:

```python
from genjax.cli.exporting import load

config, weights = load({json.dumps(target)})  # weights["params"], weights["variables"]
```

## Data

{images["count"]:,} images {height}x{width}x{channels}{classes}: the {source}, split `train`,
fingerprint {_code(images["fingerprint"])}. What begins with `test/` below was measured on its split
`test`.

## Results

{_table(rows)}
## Training

```
{train}
```

Settings, whole:

```json
{json.dumps(values["config"], indent=2)}
```

## Limits

{LIMITS}
## Licence

{said} The licence of the data may bind what is made from them, too.
"""


def _table(rows: dict[str, tuple[int, float]]) -> str:
    if not rows:
        return "The run has written no numbers.\n"
    lines = ["| number | value | at step |", "|---|---|---|"]
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
