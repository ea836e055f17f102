"""TFDS imports any module that a data set's features.json names."""

import contextlib
import sys
import tempfile
from pathlib import Path

from benchmarks.probes.finding import Finding

CODE = "genjax/data/manifest.py"


def probe() -> Finding:
    from tensorflow_datasets.core.features import feature

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "planted_module.py").write_text("class Features: pass\n")
        sys.path.insert(0, folder)
        # The module has no feature of that name, which TFDS finds out after importing it.
        with contextlib.suppress(ValueError):
            named = {"type": "planted_module.Features", "content": {}}
            feature.FeatureConnector.from_json(named)
    imported = "planted_module" in sys.modules
    return Finding(f"the named module was {'' if imported else 'not '}imported", imported)
