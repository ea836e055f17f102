"""Random folders: a short run finds nothing wrong, and finds what is planted."""

import numpy as np

from genjax.data import layout
from tools.fuzz_folders import Options, main


def test_random_folders_are_understood_or_refused(capsys):
    counts = main(Options(n=120))
    assert counts["wrong"] == 0
    assert counts["right"] > 20
    assert counts["refused"] > 20
    assert "120 folders tried: " in capsys.readouterr().out


def test_images_of_the_test_folder_among_the_others_are_noticed(monkeypatch):
    monkeypatch.setattr(layout, "_alike", lambda name: False)
    assert main(Options(n=120))["wrong"] > 0


def test_an_image_in_two_splits_is_noticed(monkeypatch):
    monkeypatch.setattr(np, "delete", lambda indices, some: indices)
    assert main(Options(n=120))["wrong"] > 0
