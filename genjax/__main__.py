"""`python -m genjax`: what the runs in a folder have come to."""

from genjax.cli.list_runs import main

main()
