"""Experiments: one file per model, run as `python -m experiments.NAME` or as a file."""

import sys

from genjax.cli.restart import (
    keep_freed_memory,
    open_streams,
    quiet_compiler,
    report_early_errors,
    report_early_signals,
)

if sys.argv[:1] == ["-m"]:  # `python -m experiments.NAME` has imported nothing else yet
    keep_freed_memory()
    open_streams()
    quiet_compiler()
    report_early_signals()
    report_early_errors()
