"""What tools.mutate changes in a module, and what it leaves alone."""

from pathlib import Path

from tools.mutate import EQUIVALENT, mutants

SOURCE = '''
def f(x: "a[1]", n: int = 2) -> "b[3]":
    """4 + 5"""
    if x < 6 and n:
        raise ValueError(f"{x + 7}")
    return max(-x, 0.5, zip(x, strict=True))
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
            "max(-x, 0.5, zip(x, strict=True)) -> min(-x, 0.5, zip(x, strict=True))",
            "max(-x, 0.5, zip(x, strict=True)) -> max(+x, 0.5, zip(x, strict=True))",
            "max(-x, 0.5, zip(x, strict=True)) -> max(-x, 1.0, zip(x, strict=True))",
        ]
    )
    assert len({m.source for m in mutants(module)}) == len(changes)


def test_a_change_is_named_with_all_that_it_lies_in(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("""
class A:
    def f(self):
        def g():
            return -x
class B:
    def f(self):
        return -x
""")
    assert [m.change.removeprefix(f"{module}: ") for m in mutants(module)] == [
        "A.f.g: -x -> +x",
        "B.f: -x -> +x",
    ]


def test_every_equivalent_mutant_is_one_and_has_a_reason():
    for line in EQUIVALENT.read_text().splitlines():
        if line.startswith("# "):
            continue
        change, reason = line.split(" # ")
        assert change in {m.change for m in mutants(Path(change.split(":")[0]))}, change
        assert reason
