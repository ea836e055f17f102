# %% Images: bright and dark discs of random size and place
import numpy as np
from genjax import data, run

rng = np.random.default_rng(0)
centre, radius = rng.uniform(5, 11, (2, 2000, 1, 1)), rng.uniform(2, 5, (2000, 1, 1))
disc = np.hypot(*(np.mgrid[:16, :16][:, None] - centre)) < radius
labels = rng.integers(0, 2, 2000)
discs = data.from_arrays((disc * np.array([0.4, 1.0])[labels][:, None, None])[..., None], labels)

# %% A family: a denoising diffusion model with a network of three layers
import jax.numpy as jnp
import optax
from flax import linen as nn
from genjax.diffusion import predictions, samplers, schedules, steps
from genjax.losses.diffusion import denoising
from genjax.train.game import Aux, Player

layers = nn.Sequential([nn.Dense(512), nn.silu, nn.Dense(512), nn.silu, nn.Dense(256)])
chain = {"schedule": schedules.Cosine(), "target": predictions.velocity}


def predict(params, z, t):
    inputs = jnp.concatenate([z.reshape(len(z), 256), jnp.cos(t[:, None] * jnp.arange(8.0))], 1)
    return layers.apply(params["net"], inputs).reshape(z.shape)


def loss(params, state, keys, batch):
    x = batch["image"] / 127.5 - 1
    return denoising(lambda z, t: predict(params, z, t), x, keys, **chain).mean(), Aux()


def generate(state, keys, z, label):
    net = lambda z, t: predict(state.averaged(), z, t)
    return (samplers.ddim(net, keys, z.shape, steps=steps.linear(25), start=z, **chain) + 1) / 2


init = lambda key, before: ({"net": layers.init(key, jnp.zeros((1, 264)))}, {})
game = {"net": Player(loss, optax.adam(2e-3), ema=0.99)}
family = run.Family(game, init, generate, latent=(16, 16, 1))

# %% Train (the same cell again resumes), and look at samples
result = run.train(family, discs, run.Settings(steps=1000, batch=64, dir="runs/discs"))
samples = result.sample(16, seed=0)
