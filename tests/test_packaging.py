"""What the wheel holds, by setup.cfg."""

import fnmatch
from configparser import ConfigParser
from pathlib import Path

import pytest

find_packages = pytest.importorskip("setuptools").find_packages
ROOT = Path(__file__).parent.parent
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def test_the_wheel_installs_genjax_and_no_other_package():
    included = SETUP["options.packages.find"]["include"].split()
    packages = find_packages(str(ROOT), include=included)
    assert {name.split(".")[0] for name in packages} == {"genjax"}
    rooms = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("genjax/**/__init__.py")}
    assert set(packages) == rooms


def test_the_wheel_has_every_file_of_the_package():
    patterns = [p.strip() for p in SETUP["options.package_data"]["*"].split(",")]
    files = [
        p for p in (ROOT / "genjax").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    ]
    others = {p.name for p in files if p.suffix != ".py"}
    assert {n for n in others if not any(fnmatch.fnmatch(n, p) for p in patterns)} == set()
