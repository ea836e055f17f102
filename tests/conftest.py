"""Eight simulated devices, rank promotion and warnings as errors, for every test."""

import os

# Before jax starts its backend; un-awaited steps on N simulated devices need 2N threads.
os.environ["PJRT_NPROC"] = "16"
os.environ["JAX_PLATFORMS"] = os.environ.get("GENJAX_TEST_PLATFORM", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
