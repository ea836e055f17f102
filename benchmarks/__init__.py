"""Benchmarks of genjax and its peers in one run: python -m benchmarks."""
