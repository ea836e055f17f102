"""Experiments: one file per model, run as `python -m experiments.NAME` or as a file."""

import sys

from genjax.cli.restart import keep_freed_memory, report_early_signals

if sys.argv[:1] == ["-m"]:  # `python -m experiments.NAME` has imported nothing else yet
    keep_freed_memory()
    report_early_signals()
