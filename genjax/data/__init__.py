"""Images: TFDS sets and folders as uint8 batches, each a pure function of (seed, step)."""
