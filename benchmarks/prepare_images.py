"""Opens the bundled images once, so that they are prepared."""

from genjax.data import open_images

if __name__ == "__main__":
    for split in ("train", "test"):
        open_images(split=split)
    print("{}")
