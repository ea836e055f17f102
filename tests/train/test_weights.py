"""Weights in safetensors: restored bit for bit as saved, and nothing else is accepted."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.train import weights
from genjax.train.weights import WeightsError

TREE = {
    "net": {
        "kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "count": np.int32(7),
        "half": jnp.array([1.5, -2], jnp.bfloat16),
        "none": np.zeros((0, 3), np.float32),
    },
    "flag": np.array(True),
}


@pytest.fixture
def path(tmp_path):
    weights.save(tmp_path / "model.safetensors", TREE, {"step": "3"})
    return tmp_path / "model.safetensors"


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert [x.dtype for x in jax.tree.leaves(found)] == [x.dtype for x in jax.tree.leaves(expected)]


def test_a_tree_and_its_metadata_round_trip(path):
    found, metadata = weights.load(path, jax.eval_shape(lambda: TREE))
    same(found, TREE)
    assert metadata == {"step": "3"}
    same(weights.load_nested(path)[0], TREE)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "bfloat16"]
    + [f"float{bits}" for bits in (16, 32, 64)]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)],
)
def test_arrays_of_every_type_come_back(tmp_path, dtype):
    tree = {"w": np.arange(3).astype(jnp.dtype(dtype))}
    weights.save(tmp_path / "model.safetensors", tree, {})
    same(weights.load(tmp_path / "model.safetensors", tree)[0], tree)


@pytest.mark.parametrize(
    ("kernel", "difference"),
    [
        (np.zeros((3, 3), np.float32), r"net\.kernel is F32 \[3, 2\] there, F32 \[3, 3\] here"),
        (np.zeros((3, 2), np.int32), r"net\.kernel is F32 \[3, 2\] there, I32 \[3, 2\] here"),
        ({"bias": np.zeros(1, np.int8)}, r"net\.kernel is F32 \[3, 2\] there, absent here"),
    ],
)
def test_another_architecture_is_reported_by_its_first_difference(path, kernel, difference):
    like = {**TREE, "net": {**TREE["net"], "kernel": kernel}}
    with pytest.raises(WeightsError, match=difference):
        weights.load(path, like)


def test_two_arrays_of_one_name_raise(tmp_path):
    with pytest.raises(ValueError, match="same name"):
        weights.save(tmp_path / "x", {"a.b": np.zeros(1), "a": {"b": np.ones(1)}}, {})


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_file_of_weights_has_the_mode_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        for name in ("first", "first", "second"):  # a new file, one replaced, another new one
            weights.save(tmp_path / name, TREE, {})
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask
    finally:
        os.umask(before)


def test_weights_are_written_atomically(path, monkeypatch):
    content = path.read_bytes()

    def half(arrays, file, metadata):
        Path(file).write_bytes(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", half)
    with pytest.raises(WeightsError, match="cannot be written: No space left"):
        weights.save(path, TREE, {})
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_planted_link_is_never_written_through(path):
    link = path.with_name("link")
    link.symlink_to(path)
    before = path.read_bytes()
    weights.save(link, {"w": np.zeros(3)}, {})
    assert path.read_bytes() == before
    assert not link.is_symlink()


def header(shape, end):
    names = {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
    text = json.dumps(names).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


HARM = {
    "empty": lambda raw: b"",
    "cut short": lambda raw: raw[:-1],
    "a longer header than file": lambda raw: (10**15).to_bytes(8, "little") + raw[8:],
    "no JSON": lambda raw: raw[:8] + b"?" + raw[9:],
    "deep JSON": lambda raw: (10**6).to_bytes(8, "little") + b"[" * 10**6,
    "huge shape": lambda raw: header([10**9, 10**9], 8),
    "shape that overflows": lambda raw: header([2**32, 2**32], 8),
    "data beyond the end": lambda raw: header([10**12], 4 * 10**12),
    "other code": lambda raw: b"\x80\x04\x95" + raw,
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_file_is_reported_in_one_line(path, harm):
    path.write_bytes(HARM[harm](path.read_bytes()))
    for read in (lambda: weights.load(path, TREE), lambda: weights.load_nested(path)):
        with pytest.raises(WeightsError, match="damaged") as raised:
            read()
        assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_or_written_is_reported(tmp_path):
    with pytest.raises(WeightsError, match="cannot be written"):
        weights.save(tmp_path / "nowhere" / "x", TREE, {})
    with pytest.raises(WeightsError, match="no file"):
        weights.load(tmp_path, TREE)
