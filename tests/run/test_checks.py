"""What a run checks before its first step: traces of its functions, and that its arrays fit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import over_batch
from genjax.errors import ConfigError
from genjax.evaluate.profiles import Profile
from genjax.run import Family, Settings
from genjax.run.checks import check_family
from genjax.train.game import Aux, Player

BATCH = {"image": jax.ShapeDtypeStruct((1, 4, 4, 1), np.uint8)}
SETTINGS = Settings(steps=1, batch=8, samples=6)


def loss(params, state, keys, batch):
    return jnp.mean(batch["image"] * params["p"]), Aux()


FAMILY = Family(
    {"p": Player(loss, optax.sgd(0.1))},
    lambda key, before: ({"p": jnp.zeros(())}, {}),
    lambda state, keys, z, label: jnp.broadcast_to(z[:, None, None], (len(z), 4, 4, 1)),
    latent=(1,),
    encode=lambda state, image: image.mean((1, 2, 3))[:, None],
    validate=lambda state, keys, batch: {"mse": batch["image"].mean((1, 2, 3))},
)


def fails(*_):
    raise ValueError("no such thing\nand more")


def check(**changes):
    check_family(replace(FAMILY, **changes), SETTINGS, BATCH, held_out=5)


def test_a_family_passes_and_nothing_is_computed():
    check()
    check(encode=None, validate=None)
    check(draw=lambda key, n: jnp.zeros((n, 1)), latent=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generate": fails}, "with these settings sampling fails: no such thing$"),
        ({"validate": fails}, "with these settings validation fails: no such thing$"),
        ({"encode": fails}, "with these settings reconstruction fails: no such thing$"),
        ({"reconstruct": fails}, "reconstruction fails"),
        ({"generate": lambda state, keys, z, label: z}, r"generate returns \(6, 1\), where"),
        (
            {"validate": lambda state, keys, batch: {"mse": jnp.zeros(())}},
            r"the score 'mse' returns \(\), where \(5,\) is due",
        ),
        ({"profile": Profile("p", "t", fails)}, "with these settings the profile fails: no such"),
        (
            {"profile": Profile("p", "t", lambda *_: (jnp.zeros(3), jnp.zeros(4)))},
            r"a profile is two arrays \[n\], not \(3,\) and \(4,\)",
        ),
        (
            {"game": {"p": Player(lambda *_: (jnp.zeros(3), Aux()), optax.sgd(0.1))}},
            r"the loss of 'p' returns \(3,\)",
        ),
        ({"latent": (10**13,)}, "--run.samples 6 takes .* GB, and there are"),
    ],
)
def test_what_would_fail_later_fails_before_the_first_step(changes, message):
    with pytest.raises(ConfigError, match=message):
        check(**changes)


def test_a_state_or_a_batch_that_does_not_fit_into_memory_is_refused():
    def init(key, before):
        return {"p": jnp.zeros((10**6, 10**9))}, {}

    with pytest.raises(ConfigError, match=r"the network takes .* GB, and there are"):
        check(init=init)
    batch = {"image": jax.ShapeDtypeStruct((1, 1000, 1000, 1), np.uint8)}
    with pytest.raises(ConfigError, match=r"--run\.batch 2,000,000,000 takes"):
        check_family(FAMILY, replace(SETTINGS, batch=2_000_000_000), batch, 5)


def test_a_bug_in_a_family_keeps_its_traceback():
    with pytest.raises(NameError):
        check(generate=lambda *_: undefined)  # noqa: F821


def test_the_family_before_is_checked_too():
    with pytest.raises(ConfigError, match="sampling fails"):
        check(before=replace(FAMILY, generate=fails, name="first"))


@pytest.mark.parametrize(
    ("settings", "player", "found"),
    [
        ({"devices": 1}, {}, "training fails: 8 images$"),
        ({"devices": 2}, {}, "training on 4 images at once, of --run.batch 8 fails: 4 images$"),
        ({"devices": 4, "sharded": True}, {}, "training fails: 8 images$"),
        ({"devices": 2}, {"turns": 2, "microbatches": 2}, "training on 1 images at once"),
    ],
)
def test_a_loss_is_traced_on_the_images_that_a_device_shows_it(settings, player, found):
    """Where their number decides whether it can be computed, that is known before the start."""

    def particular(params, state, keys, batch):
        if settings == {"devices": 2}:
            assert over_batch.shards() == 2
        raise ValueError(f"{len(batch['image'])} images")

    family = replace(FAMILY, game={"p": Player(particular, optax.sgd(0.1), **player)})
    with pytest.raises(ConfigError, match=found):
        check_family(family, replace(SETTINGS, **settings), BATCH, held_out=5)
