"""The commands every experiment shares: train, sample, reconstruct, interpolate, evaluate."""
