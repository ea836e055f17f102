"""Images: TFDS sets and folders as uint8 batches, each a pure function of (seed, step)."""

from genjax.data.error import DataError
from genjax.data.images import Images, in_memory
from genjax.data.opening import open_images

__all__ = ["DataError", "Images", "in_memory", "open_images"]
