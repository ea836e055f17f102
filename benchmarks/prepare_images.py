"""Opens the embedded images once, so that later openings find them prepared."""

from genjax.data import open_images

if __name__ == "__main__":
    for split in ("train", "test"):
        open_images(split=split)
    print("{}")
