"""Image files that a user names: of any size and mode, told what became of them."""

import numpy as np
import pytest
from PIL import Image

from genjax.data import DataError, read_images, read_mask

SHAPE = (8, 8, 1)


def save(path, array, **more):
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **more)
    return path


def test_an_image_of_the_models_form_stays_as_it_is(tmp_path):
    pixels = np.arange(64).reshape(8, 8)
    (given,) = read_images([save(tmp_path / "a.png", pixels)], SHAPE)
    np.testing.assert_array_equal(given.image[..., 0], pixels)
    assert (given.name, given.size, given.changed) == ("a.png", (8, 8), "")


@pytest.mark.parametrize(
    ("fit", "said"),
    [("crop", "cropped to its centre and resized"), ("pad", "padded and resized")],
)
def test_another_size_and_mode_are_told(tmp_path, fit, said):
    wide = np.zeros((16, 32, 3))
    wide[:, 8:24] = 200
    (given,) = read_images([save(tmp_path / "wide.png", wide)], SHAPE, fit)
    assert given.changed == f"{said} from 16x32 to 8x8, made grey"
    assert given.image.shape == SHAPE
    assert (given.image > 150).mean() == (1.0 if fit == "crop" else 0.25)


def test_a_photo_is_turned_upright_before_it_is_measured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    path = save(tmp_path / "phone.jpg", np.zeros((16, 32)), exif=exif)
    assert read_images([path], (16, 8, 1))[0].changed == "resized from 32x16 to 16x8"


def test_a_link_that_the_user_names_is_followed(tmp_path):
    save(tmp_path / "a.png", np.ones((8, 8)))
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "link.png").symlink_to(tmp_path / "a.png")
    assert read_images([tmp_path / "place" / "link.png"], SHAPE)[0].image.all()


def test_a_mask_hides_its_white_pixels_and_takes_the_images_size(tmp_path):
    mask = np.zeros((16, 16))
    mask[:, 8:] = 255
    path = save(tmp_path / "m.png", mask)
    hidden = read_mask(path, (16, 16), SHAPE)
    np.testing.assert_array_equal(hidden, np.arange(8)[None] >= np.full((8, 1), 4))
    save(tmp_path / "small.png", mask[::2, ::2])
    np.testing.assert_array_equal(read_mask(tmp_path / "small.png", (16, 16), SHAPE), hidden)


def test_what_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    for name, said in [("none.png", "is no file"), ("text.png", "no image"), ("", "is no file")]:
        with pytest.raises(DataError, match=said):
            read_images([tmp_path / name], SHAPE)
    black, white = (save(tmp_path / f"{v}.png", np.full((8, 8), v)) for v in (0, 255))
    for path, size, said in [
        (black, (8, 8), "hides nothing, no pixel of it is white"),
        (white, (8, 8), "hides everything, no pixel of it is black"),
        (save(tmp_path / "odd.png", np.eye(9) * 255), (16, 16), "is 9x9 and its image 16x16"),
    ]:
        with pytest.raises(DataError, match=said):
            read_mask(path, size, SHAPE)
