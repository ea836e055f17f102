"""Folders of images: what is read, how it is cropped, and which files raise, by name."""

import itertools
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from genjax.data import DataError, open_images
from genjax.data.files import MAX_BYTES, MAX_DEPTH, MAX_SIDE

SIZE = 8


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def plain(value, height=12, width=10):
    return np.full((height, width, 3), value)


def opened(folder, split="all", **options):
    return open_images(folder=folder, split=split, size=SIZE, **options)


@pytest.fixture
def twenty(tmp_path):
    """Twenty grey images in two classes; the value of each is its index in the sorted order."""
    for i in range(20):
        save(tmp_path / ("cat" if i < 8 else "dog") / f"{i:02}.png", plain(10 * i))
    return tmp_path


def values(images):
    return images.source[np.arange(len(images))]["image"][:, 0, 0, 0]


def test_images_come_sorted_by_path_with_their_folders_as_classes(twenty):
    images = opened(twenty)
    assert images.shape == (20, SIZE, SIZE, 3)
    assert images.classes == ("cat", "dog")
    np.testing.assert_array_equal(values(images), 10 * np.arange(20))
    np.testing.assert_array_equal(images.source.label, np.arange(20) >= 8)


def test_an_image_outside_the_subfolders_means_no_labels(twenty):
    save(twenty / "alone.png", plain(0))
    images = opened(twenty)
    assert not images.labelled
    assert images.classes == ()
    assert set(images.batch(0, 0, 4)) == {"image"}


def test_hidden_and_other_files_are_skipped(twenty):
    (twenty / "notes.txt").write_text("no image")
    save(twenty / "cat" / "._00.png", plain(0))
    save(twenty / ".cache" / "thumb.png", plain(0))
    assert len(opened(twenty)) == 20


def test_train_and_test_partition_the_images_stably(twenty):
    train, test = opened(twenty, "train"), opened(twenty, "test")
    assert len(test) == 2
    assert sorted([*values(train), *values(test)]) == sorted(values(opened(twenty)))
    save(twenty / "dog" / "zz.png", plain(255))
    moved = set(values(test)) - set(values(opened(twenty, "test")))
    assert len(moved) <= 1  # it replaces one at most


def test_folders_called_train_and_test_are_the_splits(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            save(tmp_path / split / f"class{i}" / "a.png", plain(i))
    assert len(opened(tmp_path, "train")) == 3
    assert len(opened(tmp_path, "test")) == 2
    assert len(opened(tmp_path, "all")) == 5
    assert opened(tmp_path, "train").classes == ("class0", "class1", "class2")


def test_a_class_called_train_beside_others_is_a_class(tmp_path):
    for name in ("train", "tram"):
        save(tmp_path / name / "a.png", plain(0))
    with pytest.raises(DataError, match="train named like a split beside tram"):
        opened(tmp_path)
    assert opened(tmp_path, subfolders="classes").classes == ("train", "tram")


def test_the_short_side_is_resized_and_the_centre_cropped(tmp_path):
    pixels = np.zeros((16, 48, 3))
    pixels[:, 16:32] = 200  # the middle square alone
    save(tmp_path / "wide.png", pixels)
    save(tmp_path / "high.png", pixels.swapaxes(0, 1))
    found = opened(tmp_path).source.image.astype(int)
    # Lanczos may swing over by a few levels next to the black that is cropped off.
    assert np.abs(found - 200).max() <= 20
    assert np.abs(found[:, 3:5, 3:5] - 200).max() <= 1


def test_downscaling_is_anti_aliased(tmp_path):
    checks = 255 * (np.indices((64, 64)).sum(0) % 2)
    save(tmp_path / "checks.png", checks)
    found = opened(tmp_path, channels=1).source.image
    assert found.shape == (1, SIZE, SIZE, 1)
    assert np.abs(found.astype(int) - 127).max() <= 8


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_exif_orientation_is_applied(tmp_path, suffix):
    pixels = np.zeros((64, 64, 3))
    pixels[:32] = 250  # bright above
    turned = Image.Exif()
    turned[0x0112] = 6  # "turn by 90 degrees clockwise to view"
    save(tmp_path / f"a.{suffix}", pixels, exif=turned)
    found = opened(tmp_path).source.image[0, :, :, 0]
    assert found[:, -2:].min() > 200  # the bright half is on the right
    assert found[:, :2].max() < 50


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (9, 9), 3)
        image.putpalette([7] * 768)
        image.save(tmp_path / "a.png", transparency=3)
    else:
        Image.new(mode, (9, 9), (9, 9, 9, 0) if mode == "RGBA" else (9, 0)).save(tmp_path / "a.png")
    assert opened(tmp_path).source.image.min() == 255


def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path):
    Image.fromarray(np.full((9, 9), 0x80FF, np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(opened(tmp_path, channels=1).source.image, 0x80)


def test_cmyk_and_black_and_white_become_colour(tmp_path):
    Image.new("CMYK", (9, 9), (0, 0, 0, 255)).save(tmp_path / "a.jpg")
    Image.new("1", (9, 9), 1).save(tmp_path / "b.png")
    assert values(opened(tmp_path)).tolist() == [0, 255]


def png_header(width, height):
    """A PNG whose header claims a size and that has almost no data."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def wide(path, outside):
    save(path, np.zeros((1, 10_000, 3)))


def bomb(path, outside):
    path.write_bytes(png_header(60_000, 60_000))


def largest_side_too_many(path, outside):
    path.write_bytes(png_header(MAX_SIDE + 1, 1))


def truncated(path, outside):
    rng = np.random.default_rng(0)
    save(path, rng.integers(0, 256, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:3000])


def text(path, outside):
    path.write_text("this is no image")


def empty(path, outside):
    path.touch()


def postscript(path, outside):
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def float_pixels(path, outside):
    Image.fromarray(np.zeros((9, 9), np.float32)).save(path, format="TIFF")


def many_bytes(path, outside):
    save(path, plain(0))
    os.truncate(path, MAX_BYTES + 1)


def pipe(path, outside):
    os.mkfifo(path)


def folder_by_name(path, outside):
    path.symlink_to(path.parent, target_is_directory=True)


def socket_by_name(path, outside):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(path))  # as an absolute path it may be too long


def device(path, outside):
    path.symlink_to("/dev/zero")


def link_up(path, outside):
    save(path.parent.parent.parent / "secret.png", plain(0))
    path.symlink_to("../../secret.png")


def text_bomb(path, outside):
    raw = png_header(9, 9)
    packed = b"zTXtx\0\0" + zlib.compress(bytes(100 << 20))
    chunk = struct.pack(">I", len(packed) - 4) + packed + struct.pack(">I", zlib.crc32(packed))
    path.write_bytes(raw[:33] + chunk + raw[33:])


def link_out(path, outside):
    save(outside / "secret.png", plain(0))
    path.symlink_to(outside / "secret.png")


def folder_link_out(path, outside):
    save(outside / "secret.png", plain(0))
    path.symlink_to(outside, target_is_directory=True)


def dangling(path, outside):
    path.symlink_to(path.parent / "nowhere.png")


BAD = {
    wide: "10000 x 1 pixels",
    bomb: "60000 x 60000 pixels|decompression bomb",
    largest_side_too_many: f"{MAX_SIDE + 1} x 1 pixels",
    truncated: "broken",
    text: "no image",
    empty: "no image",
    postscript: "no image",
    float_pixels: "no fixed range",
    many_bytes: f"over {MAX_BYTES >> 20}",
    pipe: "not a regular file",
    socket_by_name: "not a regular file",
    device: "leads out",
    link_up: "leads out",
    text_bomb: "broken",
    folder_by_name: "linked folder",
    link_out: "leads out",
    folder_link_out: "leads out",
    dangling: "No such file",
}


@pytest.mark.parametrize(("make", "reason"), BAD.items(), ids=[make.__name__ for make in BAD])
def test_a_bad_file_raises_by_name_or_is_skipped(
    twenty, tmp_path_factory, make, reason, monkeypatch
):
    sizes, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda image: sizes.append(image.size) or load(image)
    )
    path = twenty / "cat" / "bad.png"
    make(path, tmp_path_factory.mktemp("outside"))
    with pytest.raises(DataError, match=reason) as raised:
        opened(twenty)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    images = opened(twenty, bad="skip")
    assert all(max(size) <= MAX_SIDE for size in sizes)  # nothing huge was decoded
    assert len(images) == 20
    assert len(images.skipped) == 1
    assert str(path) in images.skipped[0]


def test_folders_nested_too_deeply_raise_or_are_skipped(twenty):
    deepest = twenty.joinpath(*["down"] * MAX_DEPTH)
    save(deepest / "in.png", plain(0))
    assert len(opened(twenty)) == 21
    save(deepest / "down" / "out.png", plain(0))
    with pytest.raises(DataError, match="nested too deeply"):
        opened(twenty)
    assert len(opened(twenty, bad="skip")) == 21


TIFF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"  # one tag, the orientation
EXIF = {
    "no tags": b"Exif\0\0garbage",
    "a tag cut short": TIFF,
    "a count beyond the end": TIFF + b"\0\x02\xff\xff\xff\xff\0\0\xff\xff\0\0\0\0",
    "an unknown turn": TIFF + b"\0\x03\0\0\0\x01\0\x4d\0\0\0\0\0\0",
}


@pytest.mark.parametrize("exif", EXIF)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the broken tags
def test_damaged_exif_data_are_ignored(tmp_path, exif, suffix):
    save(tmp_path / f"a.{suffix}", plain(90), exif=EXIF[exif])
    assert abs(int(values(opened(tmp_path))[0]) - 90) <= 2  # the codecs' rounding


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_orientation_matches_pillow(tmp_path, turn):
    tag = Image.Exif()
    tag[0x0112] = turn
    rng = np.random.default_rng(turn)
    save(tmp_path / "a.png", rng.integers(0, 256, (SIZE, SIZE, 3)), exif=tag)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(opened(tmp_path).source.image[0], expected)


@pytest.mark.parametrize("suffix", ["gif", "png", "tiff", "webp"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, suffix):
    first, *rest = [Image.new("RGB", (9, 9), (v, v, v)) for v in (40, 200)]
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest)
    assert abs(int(values(opened(tmp_path))[0]) - 40) <= 2  # WebP's rounding


def test_a_link_inside_the_folder_is_followed(twenty):
    (twenty / "cat" / "again.png").symlink_to(twenty / "dog" / "19.png")
    assert sorted(values(opened(twenty)))[-2:] == [190, 190]


def test_an_unprintable_file_name_is_reported_in_one_line(tmp_path):
    (tmp_path / "two\nlines.png").touch()
    with pytest.raises(DataError) as raised:
        opened(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "no such split"])
def test_an_unusable_folder_is_reported_in_one_line(tmp_path, kind):
    folder, split = tmp_path, "train"
    if kind == "missing":
        folder = tmp_path / "nowhere"
    elif kind == "file":
        folder = tmp_path / "a.png"
        save(folder, plain(0))
    elif kind == "no such split":
        split = "trian"
    with pytest.raises(DataError) as raised:
        opened(folder, split)
    assert "\n" not in str(raised.value)


def test_a_folder_of_only_bad_files_raises_even_when_skipping(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png"):
        opened(tmp_path, bad="skip")


def test_a_folder_over_the_memory_bound_gives_the_same_batches(twenty):
    held, streamed = opened(twenty), opened(twenty, memory=1)
    assert held.in_memory
    assert not streamed.in_memory
    assert streamed.fingerprint == held.fingerprint
    for ours, theirs in itertools.islice(
        zip(held.batches(0, 3, 6), streamed.batches(0, 3, 6), strict=False), 5
    ):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        np.testing.assert_array_equal(ours["label"], theirs["label"])


def test_a_large_folder_names_a_damaged_file_when_its_batch_is_read(twenty):
    truncated(twenty / "cat" / "bad.png", None)
    images = opened(twenty, memory=1)
    assert len(images) == 21
    with pytest.raises(DataError, match=r"bad\.png"):
        list(images.batches(0, 0, 7, stop=3))
    assert len(opened(twenty, memory=1, bad="skip")) == 20
