"""XLA's CPU code is slow for elementwise chains that are reduced over short trailing axes."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown

CODE = "genjax/losses/likelihoods.py"


def probe() -> Finding:
    logits = jax.random.normal(jax.random.key(0), (512, 28, 28, 1))

    def chain(a):
        return jnp.maximum(a, 0) - 0.3 * a + jnp.log1p(jnp.exp(-jnp.abs(a)))

    images = jax.jit(lambda a: chain(a).sum((1, 2, 3)))
    rows = jax.jit(lambda a: chain(a.reshape(len(a), -1)).sum(1))
    ratio = slowdown(lambda: images(logits), lambda: rows(logits), rounds=15)
    return Finding(f"[B, 28, 28, 1] takes {ratio:.1f} times as long as [B, 784]", ratio > 1.3)
