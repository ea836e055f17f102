"""Which tests prove a public name of genjax: those of its module that name it, by ast."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from names import PROVEN, ROOT, Name, modules, public_names

TESTS = ROOT / "tests"

# Test files that prove names of other modules of losses and diffusion than the one they mirror.
SHARED = {
    "losses/test_diffusion_transforms.py": (
        *("consistency", "couplings", "diffusion", "flow", "meanflow", "vdm", "vlb"),
    ),
    "losses/test_against_numpyro.py": ("importance", "likelihoods", "vae"),
    "losses/test_against_torch.py": ("gan", "likelihoods", "vae"),
    "diffusion/test_against_diffusers.py": ("predictions", "schedules"),
    "losses/test_over_devices.py": (
        *("beta_tc", "gan", "info_vae", "likelihoods", "lookup_free", "penalties", "quantized"),
        "vae",
    ),
    "losses/test_argument_checks.py": (),
    "losses/test_augment_with_labels.py": ("adaptive_augmentation",),
    "losses/test_factor_vae.py": ("vae",),
    "losses/test_tighter_bounds.py": ("importance",),
    "losses/test_vamp_prior.py": ("vae",),
    "losses/test_nnx_networks.py": ("penalties",),
    "losses/test_paper_defaults.py": (),
    "diffusion/test_coupled_pairs.py": ("likelihood", "samplers"),
    "diffusion/test_diffusion_paper_defaults.py": (),
    "diffusion/test_schedules.py": ("discrete_schedules",),
    "diffusion/test_sampler_contract.py": (
        *("adams_bashforth", "correctors", "interpolants", "multistep", "samplers", "singlestep"),
    ),
    "diffusion/test_samplers_against_diffusers.py": (
        *("adams_bashforth", "few_step", "guidance", "multistep", "samplers"),
    ),
    "diffusion/test_samplers_against_k_diffusion.py": (
        *("adams_bashforth", "adaptive", "multistep", "singlestep"),
    ),
    "test_defects.py": (
        *("autoencoder", "consistency", "diffusion", "flow", "importance", "likelihoods"),
        *("meanflow", "samplers", "multistep", "correctors", "vae", "vdm", "vlb"),
    ),
}


class TestFile:
    """What each test of a file names, itself or through what it uses of the file."""

    __test__ = False

    def __init__(self, path: Path):
        self.tree = ast.parse(path.read_text())
        self.aliases: dict[str, str] = {}  # a name of the file -> the name of genjax it stands for
        self.uses: dict[str, set[str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genjax"):
                for alias in node.names:
                    self.aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in self.tree.body:
            for name in self._defined(node):
                self.uses.setdefault(name, set()).update(self._names(node))

    def tests(self) -> Iterator[tuple[str, set[str]]]:
        """Each test, and the names of the file and dotted names of genjax that it reaches."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name, self._reached(node.name)

    def _defined(self, node: ast.stmt) -> list[str]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return [node.name]
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.For):
            return [
                n.id for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            ]  # fmt: skip
        return []

    def _names(self, node: ast.AST) -> Iterator[str]:
        for n in ast.walk(node):
            match n:
                case ast.Attribute():
                    root, _, rest = ast.unparse(n).partition(".")
                    if root == "genjax":
                        yield ast.unparse(n)
                    elif root in self.aliases:
                        yield f"{self.aliases[root]}.{rest}"
                case ast.Name(id=name) | ast.arg(arg=name):
                    yield self.aliases.get(name, name)

    def _reached(self, start: str) -> set[str]:
        reached, open_names = set(), {start}
        while open_names:
            name = open_names.pop()
            reached.add(name)
            open_names |= self.uses.get(name, set()) - reached
        return reached


def test_files() -> dict[str, set[str]]:
    """{test file below tests/: the modules whose names its tests prove}."""
    found: dict[str, set[str]] = {}
    for module in modules():
        *folders, stem = module.split(".")[1:]
        file = "/".join([*folders, f"test_{stem}.py"])
        if (TESTS / file).exists():
            found[file] = {module}
    for file, stems in SHARED.items():
        if (TESTS / file).exists():
            proven = {f"genjax.{room}.{stem}" for room in PROVEN for stem in stems}
            found[file] = found.get(file, set()) | proven & set(modules())
    return found


@cache
def proven_names() -> list[Name]:
    """Every public name, with its tests."""
    found = public_names()
    for file, reach in test_files().items():
        for test, reached in TestFile(TESTS / file).tests():
            for name in found:
                if name.module in reach and name.path in reached:
                    name.tests.append((file, test))
    by_path = {name.path: name for name in found}
    # Twice, for a value of a class derived from another.
    for name in [*found, *found]:
        for path in _stand_ins(name, found):
            name.tests += [test for test in by_path[path].tests if test not in name.tests]
    return found


def _stand_ins(name: Name, found: list[Name]) -> list[str]:
    """Names whose tests are this one's too: its values, its subclasses, what returns it."""
    return sorted(
        other.path
        for other in found
        if other.module == name.module and name.name in (other.kind, other.returns, *other.bases)
    )
