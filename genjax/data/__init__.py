"""Images: TFDS sets and folders as uint8 batches, each a pure function of (seed, step)."""

from genjax.data.error import DataError
from genjax.data.images import Images, from_arrays
from genjax.data.opening import open_images

__all__ = ["DataError", "Images", "from_arrays", "open_images"]
