"""`python -m genjax`: what runs have come to, their pages, and scores of images."""

import sys

match sys.argv[1:]:
    case ["report", *words]:
        from genjax.cli.report import main

        main(words)
    case ["score" | "compare" as command, *words]:
        from genjax.cli import score

        score.main(command, words)
    case words:
        from genjax.cli import list_runs

        list_runs.main(words)
