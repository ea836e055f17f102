"""Images: TFDS data sets, folders and arrays as uint8 batches, a pure function of (seed, step)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
