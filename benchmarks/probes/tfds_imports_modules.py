"""TFDS imports any module that a data set's features.json names."""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.probes.finding import Finding

CODE = "genjax/data/manifest.py"


def probe() -> Finding:
    import tensorflow_datasets as tfds

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "planted_module.py").write_text("class Features: pass\n")
        features = {"pythonClassName": "planted_module.Features", "content": {}}
        (Path(folder) / "features.json").write_text(json.dumps(features))
        sys.path.insert(0, folder)
        with contextlib.suppress(Exception):
            tfds.features.FeatureConnector.from_config(folder)
        imported = "planted_module" in sys.modules
    return Finding(f"the named module was {'' if imported else 'not '}imported", imported)
