"""Diffusion mathematics: schedules, predictions, samplers, guidance, likelihood; jax only."""
