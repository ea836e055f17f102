"""How consistency models draw images, beside their teachers, and how they are scored."""

import jax.numpy as jnp

from genjax.diffusion import few_step, samplers, steps
from genjax.evaluate.profiles import per_noise_level
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein
from genjax.keys import normal
from genjax.losses import consistency
from genjax.run import Measure

COMPARED = (8, 2, 1)  # numbers of steps beside the run's in a trajectory
OF_TEACHER = 18  # steps of a teacher's sample, and intervals of the score `step`


def drawing(config, classes, student, teacher):
    """The functions of a `Family` that draw images and score them.

    config: with `recipe` and `sampling_steps`. student: (state, label) -> the consistency function.
    teacher: (state, label) -> the teacher's prediction of `recipe.target`; None without a teacher.
    """
    schedule, target = config.recipe.schedule, config.recipe.target

    def sample(state, key, z, label, n):
        how = {"schedule": schedule, "steps": steps.linear(n), "start": schedule.sigma_max * z}
        return few_step.consistency(student(state, label), key, z.shape, **how)

    def taught(state, z, label):
        how = {"schedule": schedule, "target": target, "steps": steps.linear(OF_TEACHER)}
        start = schedule.sigma_max * z
        return samplers.heun(teacher(state, label), None, z.shape, start=start, **how)

    def generate(state, key, z, label):
        return (sample(state, key, z, label, config.sampling_steps) + 1) / 2

    def trajectory(state, key, z, label):
        counts = [n for n in COMPARED if n != config.sampling_steps]
        shown = [sample(state, key, z, label, n) for n in (*counts, config.sampling_steps)]
        before = [z, taught(state, z, label)] if teacher else [z]
        return (jnp.stack([*before, *shown], 1) + 1) / 2

    def step_error(state, key, batch, t):
        x, label = _inputs(batch, classes)
        f = student(state, label)
        how = {"distance": consistency.squared, "weight": consistency.even, "schedule": schedule}
        pair = (jnp.maximum(t - 1 / OF_TEACHER, 0), t)
        return {"step": consistency.training(f, f, x, key, times=pair, **how) / x[0].size}

    def validate(state, key, batch):
        x, label = _inputs(batch, classes)
        drawn = sample(state, key, normal(key, x.shape), label, 1)
        distance = sliced_wasserstein((drawn + 1) / 2, (x + 1) / 2, key[0])
        return {"sliced_wasserstein": jnp.full(len(x), distance)}  # one for the global batch

    def measure(state, key, batch):
        x, label = _inputs(batch, classes)
        z = normal(key, x.shape)
        one, many = sample(state, key, z, label, 1), taught(state, z, label)
        return {"one_step": jnp.square(one - many).mean((1, 2, 3))}

    found = {"generate": generate, "trajectory": trajectory, "validate": validate}
    found["profile"] = per_noise_level(step_error)
    if teacher:
        units = {"one_step": f"mse to {OF_TEACHER} steps of the teacher"}
        found["measure"] = Measure(measure, units, chunk=50, n=500)
    return found


def _inputs(batch, classes):
    """Images in −1..1 and labels, None without classes."""
    return batch["image"] / 127.5 - 1, batch["label"] if classes else None
