"""XLA's CPU code is slow for elementwise chains that are reduced over short trailing axes."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown
from genjax.losses import likelihoods

CODE = "genjax/losses/likelihoods.py"


def probe() -> Finding:
    x = jax.random.uniform(jax.random.key(0), (256, 28, 28, 1))
    logits = jax.random.normal(jax.random.key(1), x.shape)

    def on_images(logits):
        size = jnp.where(logits >= 0, logits, -logits)
        wrong = jnp.where(logits >= 0, 1 - x, x)
        return (wrong * size + jnp.log1p(jnp.exp(-size))).sum((1, 2, 3)).mean()

    images = jax.jit(jax.value_and_grad(on_images))
    rows = jax.jit(jax.value_and_grad(lambda logits: likelihoods.bernoulli(logits, x).mean()))
    ratio = slowdown(lambda: images(logits), lambda: rows(logits), rounds=15)
    return Finding(f"[B, 28, 28, 1] takes {ratio:.1f} times as long as [B, 784]", ratio > 1.3)
