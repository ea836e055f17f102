"""`python -m experiments`: which experiments there are."""

import ast
import difflib
import sys
import textwrap
from pathlib import Path

STUDIES = {  # of several families and a classifier, with settings of their own
    "augment_fashion": "do synthetic images help a classifier?",
    "stacked_mnist": "how many of 1,000 modes do GANs find?",
}


def main() -> None:
    """Prints a line for each; exits with 2 where a name was given, as it is no command."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '\n    main("' in text and path != Path(__file__):
            found[path.stem] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    if sys.argv[1:] and sys.argv[1] not in ("-h", "--help"):
        name = sys.argv[1].removeprefix("experiments.")
        near = difflib.get_close_matches(name, [*found, *STUDIES], 1) or ["NAME"]
        print(f"error: start one by `python -m experiments.{near[0]}`", file=sys.stderr)
        sys.exit(2)
    print("python -m experiments.NAME, with --help for its settings:\n")
    for name, what in found.items():
        print(
            f"  {name}",
            *textwrap.wrap(what, 72, initial_indent=" " * 6, subsequent_indent=" " * 6),
            sep="\n",
        )
    print()
    for name, what in STUDIES.items():
        print(f"python -m experiments.{name}: {what}")


if __name__ == "__main__":
    main()
