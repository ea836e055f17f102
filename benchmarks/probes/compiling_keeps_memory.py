"""glibc keeps what compiling frees, until malloc_trim hands it back."""

import ctypes
import gc

import jax
import jax.numpy as jnp

from benchmarks import memory
from benchmarks.probes.finding import Finding
from genjax.models import unet

CODE = "genjax/train/host_memory.py"


def probe() -> Finding:
    model = unet.UNet(16, (1, 2), 1, (), head_features=32, groups=8)
    x, t = jnp.zeros((4, 28, 28, 1)), jnp.zeros(4)
    params = jax.eval_shape(model.init, jax.random.key(0), x, t)
    gradient = jax.grad(lambda p, x, t: model.apply(p, x, t).sum())
    step = jax.jit(gradient).lower(params, x, t).compile()
    before = memory.resident()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    freed = before - memory.resident()
    del step
    return Finding(f"{freed:.0f} MiB are handed back after a compilation", freed > 30)
