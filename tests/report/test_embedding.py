"""Images in a page: exact where they are small, smaller where not, none that is no image."""

import base64
import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from genjax.report import embedding, grids


def decoded(uri):
    kind, _, data = uri.partition(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_sheet_is_stored_as_small_as_it_was_without_loss(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28, 1)).astype(np.uint8)
    sheet = grids.grid(images)
    grids.save(tmp_path / "a.png", sheet)
    frame = embedding.Embedder().frame(tmp_path / "a.png", "step 1", 1)
    kind, pixels = decoded(frame.uri)
    assert (kind, frame.width, frame.height) == ("data:image/png", *sheet.shape[1::-1])
    assert pixels.shape == (sheet.shape[0] // 2, sheet.shape[1] // 2)
    np.testing.assert_array_equal(pixels.repeat(2, 0).repeat(2, 1), sheet[..., 0])


@pytest.mark.heavy
def test_large_images_are_scaled_down(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 2000, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    uri, width, height = embedding.encoded(tmp_path / "a.png")
    kind, pixels = decoded(uri)
    assert (kind, width, height) == ("data:image/webp", 2000, 1000)
    assert pixels.shape == (800, 1600, 3)


def test_transparent_pixels_lie_on_white(tmp_path):
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(embedding.read(tmp_path / "a.png"), np.full((4, 4, 3), 255))


def test_each_version_of_a_file_is_encoded_once(tmp_path, monkeypatch):
    calls = []
    encoded = embedding.encoded
    monkeypatch.setattr(embedding, "encoded", lambda path: calls.append(path) or encoded(path))
    path, embedder = tmp_path / "a.png", embedding.Embedder()
    Image.new("L", (4, 4), 7).save(path)
    first = embedder.frame(path, "x")
    assert embedder.frame(path, "x") == first
    assert len(calls) == 1
    Image.new("L", (4, 5), 9).save(path)
    assert embedder.frame(path, "x") != first
    assert len(calls) == 2


def test_what_is_no_image_is_skipped(tmp_path):
    good = tmp_path / "good.png"
    Image.new("RGB", (8, 8)).save(good)
    (tmp_path / "text.png").write_text("<script>alert(1)</script>")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:40])
    (tmp_path / "link.png").symlink_to(good)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "gif.png", "GIF")
    bomb = bytearray(good.read_bytes())
    bomb[16:24] = (60_000).to_bytes(4) * 2  # width and height
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4)
    (tmp_path / "bomb.png").write_bytes(bomb)
    embedder = embedding.Embedder()
    assert embedder.frame(good, "x") is not None
    for name in ("text", "cut", "link", "folder", "pipe", "gif", "bomb", "missing"):
        assert embedder.frame(tmp_path / f"{name}.png", "x") is None, name


def test_an_array_is_embedded_without_loss():
    rng = np.random.default_rng(0)
    for channels in (1, 3, 4):
        image = rng.integers(0, 256, (5, 7, channels)).astype(np.uint8)
        pixels = decoded(embedding.array_uri(image))[1]
        np.testing.assert_array_equal(pixels.reshape(image.shape), image)
