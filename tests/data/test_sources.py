"""Pixels of every kind of source: ranges, sizes, channels, frames, arrays in files, archives."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from genjax.data import DataError, Dataset, DataSettings, open_images
from genjax.data.summary import describe

RAMP = np.linspace(0, 4095, 64).reshape(8, 8)


def opened(path, split="all", **settings):
    return open_images(folder=path, split=split, **settings)


def pixels(path, **settings):
    return opened(path, **{"size": 8, "channels": 1, **settings}).source.image


def notes(path, **settings):
    return describe(Dataset(DataSettings(folder=str(path), **settings)))["notes"]


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


# Ranges.


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_in_sixteen_are_read_in_their_range(tmp_path, suffix):
    save(tmp_path / f"a.{suffix}", RAMP.astype(np.uint16))
    expected = np.rint(RAMP.astype(np.uint16) / 4095 * 255)
    found = pixels(tmp_path, range=(0, 4095))[0, :, :, 0]
    np.testing.assert_array_equal(found, expected)
    assert pixels(tmp_path).max() == 15  # by default the range is the format's


def test_dark_images_are_noticed_with_the_range_that_mends_it(tmp_path):
    for i in range(3):
        save(tmp_path / "wide" / f"{i}.png", RAMP.astype(np.uint16))
        save(tmp_path / "eight" / f"{i}.png", (RAMP / 4095 * 40).astype(np.uint8))
        save(tmp_path / "fine" / f"{i}.png", (RAMP / 4095 * 200).astype(np.uint8))
    (dark,) = [note for note in notes(tmp_path / "wide", size=8) if "dark" in note]
    assert "4,095 of 65,535" in dark
    assert dark.endswith("--data.range 0 4095")
    (dark,) = [note for note in notes(tmp_path / "eight", size=8) if "dark" in note]
    assert "40 of 255" in dark
    assert not [note for note in notes(tmp_path / "fine", size=8) if "bright" in note]
    assert not [n for n in notes(tmp_path / "wide", size=8, range=(0, 4095)) if "bright" in n]
    (far,) = [n for n in notes(tmp_path / "wide", size=8, range=(0, 50000)) if "bright" in n]
    assert "8% of --data.range 0 50000" in far
    # Of larger sets some images are looked at.
    many = Dataset(DataSettings(folder=str(tmp_path / "eight"), size=8))
    for split in ("train", "test"):
        many.splits[split] = opened(tmp_path / "eight", split, size=8, memory=1)
    assert any("dark" in note for note in describe(many)["notes"])


def test_floating_point_is_read_in_the_range_given_and_refused_without(tmp_path):
    save(tmp_path / "a.tif", (RAMP / 4095 - 0.5).astype(np.float32))
    with pytest.raises(DataError, match=r"--data\.range LOW HIGH \(in this file -0\.5 to 0\.5\)"):
        pixels(tmp_path)
    found = pixels(tmp_path, range=(-0.5, 0.5))[0, :, :, 0]
    assert np.abs(found - RAMP / 4095 * 255).max() <= 0.5 + 1e-3
    clipped = pixels(tmp_path, range=(0, 0.25))[0, :, :, 0]
    assert (clipped.min(), clipped.max()) == (0, 255)


def test_nan_pixels_are_a_bad_file(tmp_path):
    save(tmp_path / "a.tif", np.full((8, 8), np.nan, np.float32))
    with pytest.raises(DataError, match=r"a\.tif: some pixels are NaN"):
        pixels(tmp_path, range=(0, 1))


def test_the_range_of_colours_leaves_opacity_as_it_is(tmp_path):
    colours = np.array([[[0, 50, 100, 7]]], np.uint8)
    save(tmp_path / "a.png", colours)
    found = pixels(tmp_path, size=1, channels=4, range=(0, 100))
    np.testing.assert_array_equal(found[0, 0, 0], [0, 128, 255, 7])


def test_the_range_of_sixteen_bit_colours_is_refused(tmp_path):
    ppm = b"P6 1 1 65535\n" + np.array([1, 2, 3], ">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(ppm)
    opened(tmp_path)
    with pytest.raises(DataError, match="of colours 8 bits are read"):
        opened(tmp_path, range=(0, 4095))


# Sizes.


def wide(path):
    """Red on the left, green in the middle, blue on the right: 12 x 36."""
    array = np.zeros((12, 36, 3), np.uint8)
    for i in range(3):
        array[:, 12 * i : 12 * i + 12, i] = 255
    save(path, array)


def test_height_and_width(tmp_path):
    wide(tmp_path / "a.png")
    image = opened(tmp_path, size=(12, 36)).source.image[0]
    np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / "a.png")))
    cropped = opened(tmp_path, size=(12, 12)).source.image[0]
    np.testing.assert_array_equal(cropped, image[:, 12:24])
    assert opened(tmp_path, size=(6, 36)).shape == (1, 6, 36, 3)


def test_padding_keeps_the_complete_image_between_black(tmp_path):
    wide(tmp_path / "a.png")
    image = np.asarray(Image.open(tmp_path / "a.png"))
    padded = opened(tmp_path, size=36, fit="pad").source.image[0]
    np.testing.assert_array_equal(padded[12:24], image)
    assert padded[:12].max() == padded[24:].max() == 0
    high = opened(tmp_path, size=(12, 60), fit="pad").source.image[0]
    np.testing.assert_array_equal(high[:, 12:48], image)
    transparent = opened(tmp_path, size=36, fit="pad", channels=4).source.image[0]
    assert transparent[:12, :, 3].max() == 0
    assert transparent[12:24, :, 3].min() == 255


def test_a_line_is_padded(tmp_path):
    save(tmp_path / "a.png", np.full((1, 4000, 3), 255, np.uint8))
    assert opened(tmp_path, size=8, fit="pad").source.image.max() == 255


def test_other_shapes_and_sizes_are_noticed(tmp_path):
    wide(tmp_path / "a.png")
    wide(tmp_path / "b.png")
    assert any("--data.size 12 36 keeps that" in note for note in notes(tmp_path))
    assert not [note for note in notes(tmp_path, size=(12, 36)) if "size" in note]
    save(tmp_path / "c.png", np.zeros((9, 9, 3), np.uint8))
    assert any(note.startswith("2 files have other proportions") for note in notes(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (8, 0)},
        {"size": 100_000},
        {"size": (8, 8, 8)},
        {"size": -3},
        {"range": (1, 1)},
        {"range": (0, float("inf"))},
        {"range": (float("nan"), 1)},
        {"channels": 2},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, wrong):
    wide(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"got size|--data\.range takes|1 or 3 channels") as raised:
        opened(tmp_path, **wrong)
    assert "\n" not in str(raised.value)


# Channels and frames.


def test_grey_stays_grey_where_every_image_is(tmp_path):
    for mode in ("1", "L", "LA", "I;16"):
        Image.new(mode, (8, 8)).save(tmp_path / f"{mode[:1]}{len(mode)}.png")
    assert opened(tmp_path, size=8).shape == (4, 8, 8, 1)
    assert any(note.startswith("every image is grey") for note in notes(tmp_path))
    assert opened(tmp_path, size=8, channels=3).shape == (4, 8, 8, 3)
    assert opened(tmp_path, size=8, rules=1).shape == (4, 8, 8, 3)
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    assert opened(tmp_path, size=8).shape == (5, 8, 8, 3)
    assert not [note for note in notes(tmp_path) if "grey" in note]


def test_the_channels_of_all_splits_are_the_same(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for split, mode in (("train", "L"), ("test", "RGB")):
        save(tmp_path / split / "a.png", np.asarray(Image.new(mode, (8, 8))))
    (tmp_path / "a.png").unlink()
    assert {opened(tmp_path, split).shape[-1] for split in ("train", "test")} == {3}


def test_opacity_is_kept_on_request_and_noticed_without(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    save(tmp_path / "a.png", rgba)
    save(tmp_path / "b.png", rgba)
    np.testing.assert_array_equal(opened(tmp_path, size=8, channels=4).source.image[0], rgba)
    assert any("2 images with transparency are put on white" in note for note in notes(tmp_path))
    assert not [note for note in notes(tmp_path, channels=4) if "transparency" in note]


@pytest.mark.parametrize("suffix", ["gif", "png", "tiff", "webp"])
def test_all_frames_are_read_on_request(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), (v, v, v)) for v in (40, 120, 200)]
    for name in "ab":
        frames[0].save(tmp_path / f"{name}.{suffix}", save_all=True, append_images=frames[1:])
    images = opened(tmp_path, size=8, frames="all")
    found = images.source.image[:, 0, 0, 0].astype(int)
    assert np.abs(found - [40, 120, 200] * 2).max() <= 2  # WebP's rounding
    streamed = opened(tmp_path, size=8, frames="all", memory=1)
    assert streamed.fingerprint == images.fingerprint
    # No frame of a held-out file is trained on.
    assert [len(opened(tmp_path, s, size=8, frames="all")) for s in ("train", "test")] == [3, 3]
    assert any("2 files hold several images: the first is used" in n for n in notes(tmp_path))


def flipped(whole, at):
    return whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]


def readable(path):
    """Opens what may be damaged: what cannot be read must be a `DataError` of one line."""
    line = ""
    try:
        opened(path)
    except DataError as error:
        line = str(error)
    assert "\n" not in line


# Arrays in files.

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 3), np.uint8)
LABELS = np.arange(40) % 4


def arrays(path, **content):
    np.savez(path / "set.npz", **content)
    return path / "set.npz"


def test_images_and_labels_in_one_file(tmp_path):
    path = arrays(tmp_path, images=IMAGES, labels=LABELS)
    train, test = opened(path, "train"), opened(path, "test")
    assert (train.shape, len(test)) == ((36, 4, 6, 3), 4)
    assert train.classes == ("0", "1", "2", "3")
    number = {x.tobytes(): label for x, label in zip(IMAGES, LABELS, strict=True)}
    for images in (train, test):
        expected = [number[x.tobytes()] for x in images.source.image]
        np.testing.assert_array_equal(images.source.label, expected)
    assert {x.tobytes() for x in opened(path).source.image} == {*number}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("x_train", "y_train", "x_test", "y_test"), ["train", "test"]),
        (("train_images", "train_labels", "val_images", "val_labels"), ["train", "test"]),
        (("images", "labels", "test_images", "test_labels"), ["train", "test"]),
    ],
)
def test_splits_by_the_names_of_arrays(tmp_path, names, splits):
    parts = (IMAGES[:30], LABELS[:30, None], IMAGES[30:], LABELS[30:, None])
    path = arrays(tmp_path, **dict(zip(names, parts, strict=True)))
    found = [opened(path, split) for split in splits]
    assert [len(images) for images in found] == [30, 10]
    np.testing.assert_array_equal(found[1].source.image, IMAGES[30:])
    np.testing.assert_array_equal(found[1].source.label, LABELS[30:])


def test_one_array_of_images_needs_no_name(tmp_path):
    np.save(tmp_path / "set.npy", IMAGES[..., 0])
    assert opened(tmp_path / "set.npy").shape == (40, 4, 6, 1)
    path = arrays(tmp_path, arr_0=IMAGES, arr_1=LABELS)
    assert opened(path).classes == ("0", "1", "2", "3")
    named = arrays(tmp_path, images=IMAGES, labels=LABELS, class_names=["a", "b", "c", "d", "e"])
    assert opened(named).classes == ("a", "b", "c", "d", "e")


def test_arrays_are_scaled_and_resized_like_files(tmp_path):
    twelve = arrays(tmp_path, images=RAMP.astype(np.uint16)[None].repeat(2, 0))
    with pytest.raises(DataError, match=r"uint16 in 0\.\.4095.*--data\.range"):
        opened(twelve)
    found = opened(twelve, range=(0, 4095)).source.image[0, :, :, 0]
    np.testing.assert_array_equal(found, np.rint(RAMP.astype(np.uint16) / 4095 * 255))
    unit = arrays(tmp_path, images=(IMAGES / 255).astype(np.float32))
    assert {x.tobytes() for x in opened(unit).source.image} == {x.tobytes() for x in IMAGES}
    small = arrays(tmp_path, images=IMAGES)
    kept = opened(small, "train").source.image[0]
    image = Image.fromarray(kept).resize((3, 2), Image.Resampling.LANCZOS)
    found = opened(small, "train", size=(2, 3)).source.image[0]
    np.testing.assert_array_equal(found, np.asarray(image))
    assert opened(small, channels=1).shape == (40, 4, 6, 1)
    assert opened(small, size=6, fit="pad").source.image[:, 0].max() == 0


BAD_ARRAYS = {
    "no images": ({"labels": LABELS}, "holds labels"),
    "nothing": ({}, "holds nothing"),
    "two sets": ({"a": IMAGES, "b": IMAGES}, "call the images images"),
    "channels first": ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"\[N, C, H, W\]"),
    "no pixels": ({"images": IMAGES[:, :0]}, r"must be \[N, H, W\]"),
    "few labels": ({"images": IMAGES, "labels": LABELS[:9]}, "40 images, but labels of shape"),
    "labels of halves": ({"images": IMAGES, "labels": LABELS / 2}, "integers or strings"),
    "gaps": ({"images": IMAGES, "labels": LABELS * 2}, "no image has the label 1"),
    "objects": ({"images": np.array([{}, None])}, "cannot be read"),
    "one image": ({"images": IMAGES[:1]}, "cannot be split"),
    "no train": ({"val_images": IMAGES, "test_images": IMAGES}, "name no train images"),
    "labels of one split": (
        {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES},
        "the test images have no labels",
    ),
    "float": ({"images": IMAGES * 1.5}, r"float64 in 0\.\.382\.5"),
    "NaN": (
        {"images": np.full((2, 2, 2), np.nan)},
        "the images hold NaN: some pixels have no value",
    ),
    "complex": ({"images": IMAGES * 1j}, "complex"),
    "text": ({"images": np.full((2, 2, 2), "a")}, "<U1"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_cannot_be_used_are_refused_in_one_line(tmp_path, name):
    content, message = BAD_ARRAYS[name]
    path = arrays(tmp_path, **content)
    with pytest.raises(DataError, match=message) as raised:
        describe(Dataset(DataSettings(folder=str(path))))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_damaged_files_of_arrays_are_refused_in_one_line(tmp_path):
    path = arrays(tmp_path, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(60):
        at = int(rng.integers(len(whole)))
        path.write_bytes(whole[:at] if i % 2 else flipped(whole, at))
        readable(path)
    for name in ("set.npy", "empty.npz", "empty.zip"):
        (tmp_path / name).write_bytes(whole[:100] if name == "set.npy" else b"")
        with pytest.raises(DataError, match=r"read|broken"):
            opened(tmp_path / name)


# Archives.


def archive_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def png(value):
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    return file.getvalue()


def test_an_archive_reads_like_its_folder(tmp_path):
    files = {f"{name}/{i}.png": png(9 * i) for name in ("cat", "dog") for i in range(10)}
    for name, content in files.items():
        (tmp_path / "loose" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "loose" / name).write_bytes(content)
    path = archive_of(tmp_path / "set.zip", files)
    for split in ("train", "test"):
        packed, loose = (opened(p, split) for p in (path, tmp_path / "loose"))
        assert packed.fingerprint == loose.fingerprint
    streamed = opened(path, memory=1)
    assert len(list(streamed.batches(0, 0, 5, stop=8))) == 8


def test_an_archive_with_the_separators_of_windows(tmp_path):
    files = {f"train\\{name}\\{i}.png": png(9 * i) for name in ("cat", "dog") for i in range(9)}
    images = opened(archive_of(tmp_path / "set.zip", files))
    assert (images.classes, len(images)) == (("cat", "dog"), 18)


def test_a_bad_file_of_an_archive_is_named(tmp_path):
    bomb = {"big.png": b"\x89PNG\r\n\x1a\n" + bytes(65 << 20)}
    for files, message in (
        ({"a.png": b"no image"}, r"set\.zip/a\.png: broken"),
        (bomb, "over 64"),
        ({"../../a.png": png(0), "b.png": b""}, r"b\.png: broken"),
    ):
        path = archive_of(tmp_path / "set.zip", files)
        with pytest.raises(DataError, match=message):
            opened(path)
    path = archive_of(tmp_path / "set.zip", {"a.png": png(1), "b.png": png(2)})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 60):
        path.write_bytes(flipped(whole, at))
        readable(path)


@pytest.mark.parametrize(
    "settings",
    [{"range": (0, 1)}, {"frames": "all"}, {"follow_links": True}, {"subfolders": "none"}],
)
def test_settings_for_folders_are_refused_for_tfds_sets(settings):
    (name,) = settings
    with pytest.raises(DataError, match=f"--data.{name.replace('_', '-')} is for folders"):
        open_images(**settings)


def test_tfds_sets_have_other_shapes_and_padding_too(own_sets):
    images = open_images(data_dir=own_sets, split="test[:4]", size=(14, 28))
    assert images.shape == (4, 14, 28, 1)
    padded = open_images(data_dir=own_sets, split="test[:4]", size=(28, 40), fit="pad")
    plain = open_images(data_dir=own_sets, split="test[:4]")
    np.testing.assert_array_equal(padded.source.image[:, :, 6:34], plain.source.image)
    assert padded.source.image[:, :, :6].max() == 0
    with pytest.raises(DataError, match=r"--data\.fit pad needs a --data\.size"):
        open_images(data_dir=own_sets, fit="pad")
    with pytest.raises(DataError, match="TFDS images have 1 or 3"):
        open_images(data_dir=own_sets, channels=4)
