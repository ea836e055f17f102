"""Generative vision in JAX: losses, diffusion mathematics, models and one training loop."""
