"""`python -m genjax`: what the runs in a folder have come to; `report`: the page of a run."""

import sys

match sys.argv[1:]:
    case ["report", *words]:
        from genjax.cli.report import main
    case words:
        from genjax.cli.list_runs import main

main(words)
