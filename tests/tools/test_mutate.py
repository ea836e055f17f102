"""What tools.mutate changes in a module, and what it leaves alone."""

from tools.mutate import mutants

SOURCE = '''
def f(x: "a[1]", n: int = 2) -> "b[3]":
    """4 + 5"""
    if x < 6 and n:
        raise ValueError(f"{x + 7}")
    return max(-x, 0.5)
'''


def test_a_mutant_changes_one_value_and_never_text(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(SOURCE)
    changes = [m.change.removeprefix(f"{module}: f: ") for m in mutants(module)]
    assert sorted(changes) == sorted(
        [
            "x: 'a[1]', n: int=2 -> x: 'a[1]', n: int=3",
            "x < 6 and n -> x < 6 or n",
            "x < 6 and n -> x <= 6 and n",
            "x < 6 -> x < 7",
            "max(-x, 0.5) -> min(-x, 0.5)",
            "max(-x, 0.5) -> max(+x, 0.5)",
            "max(-x, 0.5) -> max(-x, 1.0)",
        ]
    )
    assert len({m.source for m in mutants(module)}) == len(changes)
