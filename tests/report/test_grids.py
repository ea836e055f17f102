"""Grids: every image in its place, pixel for pixel."""

import numpy as np
from PIL import Image

from genjax.report import grids


def test_floats_round_to_the_nearest_byte_and_out_of_range_values_do_not_wrap():
    given = np.array([0, 0.5, 1, -1, 2, np.nan, 127.4 / 255])
    np.testing.assert_array_equal(grids.to_uint8(given), [0, 128, 255, 0, 255, 0, 127])


def test_a_grid_holds_every_image_row_by_row():
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    sheet = grids.grid(images, columns=3, gap=2)
    assert sheet.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    for i, image in enumerate(images):
        y, x = 2 + i // 3 * 66, 2 + i % 3 * 66
        np.testing.assert_array_equal(sheet[y : y + 64, x : x + 64], image)
    assert (sheet[-66:, -66:] == grids.BACKGROUND).all()


def test_small_grey_images_are_enlarged_by_an_integer_factor():
    image = np.arange(28 * 28, dtype=np.uint8).reshape(1, 28, 28, 1)
    sheet = grids.grid(image, gap=0)
    assert sheet.shape == (56, 56, 3)
    np.testing.assert_array_equal(sheet[::2, ::2, 1], image[0, :, :, 0])
    np.testing.assert_array_equal(sheet[1::2, 1::2, 2], image[0, :, :, 0])


def test_pairs_alternate_images_and_reconstructions():
    above = np.full((3, 64, 64, 1), 10, np.uint8)
    below = np.full((3, 64, 64, 1), 20, np.uint8)
    sheet = grids.pairs(above, below, columns=2)
    column = sheet[2 + 32 :: 66, 2, 0]
    np.testing.assert_array_equal(column, [10, 20, 10, 20])
    assert sheet[2 + 2 * 66, -3, 0] == grids.BACKGROUND  # there is no fourth pair


def test_a_saved_image_reads_back_and_no_temporary_file_remains(tmp_path):
    saved = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    grids.save(tmp_path / "new" / "a.png", saved)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), saved)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_an_animation_keeps_its_frames_and_stands_still_at_the_end(tmp_path):
    way = np.linspace(0, 255, 2 * 61 * 64 * 64).astype(np.uint8).reshape(2, 61, 64, 64, 1)
    sheets = grids.frames(way)
    assert sheets.shape[0] == 60
    grids.save_animation(tmp_path / "x.gif", sheets)
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 60
        for i in (0, 59):
            gif.seek(i)
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), sheets[i])
        np.testing.assert_array_equal(sheets[59], grids.grid(way[:, -1]))
        assert gif.info["duration"] == 2000


def test_a_strip_leads_from_the_first_step_to_the_last():
    way = np.zeros((2, 61, 64, 64, 1), np.uint8)
    way[1, 0], way[1, -1] = 10, 20
    sheet = grids.strips(way)
    assert sheet.shape[:2] == (2 * 66 + 2, 10 * 66 + 2)
    assert (sheet[70, 10, 0], sheet[70, -10, 0], sheet[70, 70, 0]) == (10, 20, 0)
