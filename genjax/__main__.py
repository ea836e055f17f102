"""`python -m genjax`: what runs have come to, their pages, scores and audits of images."""

import sys

match sys.argv[1:]:
    case ["report", *words]:
        from genjax.cli.report import main

        main(words)
    case ["score" | "audit" | "compare" as command, *words]:
        from genjax.cli import score

        score.main(command, words)
    case words:
        from genjax.cli import list_runs

        list_runs.main(words)
