"""Metrics on arrays of images; knows no model family."""
