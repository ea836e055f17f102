"""Generative vision in JAX: losses, diffusion mathematics, models and one training loop."""

__version__ = "0.1.0"
