"""genjax and its peers timed in one run: python -m benchmarks."""
