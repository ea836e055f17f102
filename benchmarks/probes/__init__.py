"""Facts that cost code, one per module: `python -m benchmarks.probes [NAME ...]` shows which hold.

A probe has CODE, the file that exists because of the fact, and probe(), which measures it on this
machine with the installed versions. Each is described in docs/notes.
"""
