"""Loss functions: callables and arrays in, one number per example out; jax only."""
