"""`python -m genjax`: what the runs in a folder have come to; scores of images and of runs."""

import sys

if sys.argv[1:2] in (["score"], ["compare"]):
    from genjax.cli import score

    score.main(sys.argv[1], sys.argv[2:])
else:
    from genjax.cli.list_runs import main

    main()
