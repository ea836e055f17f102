"""Likelihoods, KL and adversarial losses against PyTorch's, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import gan, likelihoods, vae

torch = pytest.importorskip("torch")
F = torch.nn.functional

RNG = np.random.default_rng(0)
A = RNG.normal(scale=3, size=(4, 3, 2)).astype(np.float32)
B = RNG.normal(size=(4, 3, 2)).astype(np.float32)
SHARE = RNG.uniform(size=(4, 3, 2)).astype(np.float32)
LABELS = RNG.integers(0, 2, (4, 3))


def normal(mean, log_var):
    return torch.distributions.Normal(mean, torch.exp(log_var / 2))


# Functions of the arrays A and B: ours, and theirs, summed over the elements of an example or not.
CASES = {
    "bernoulli": (
        lambda a, b: likelihoods.bernoulli_nll(a, jnp.asarray(SHARE)),
        lambda a, b: F.binary_cross_entropy_with_logits(a, torch.tensor(SHARE), reduction="none"),
    ),
    "gaussian": (
        lambda a, b: likelihoods.gaussian_nll(a, b, sigma=0.7),
        lambda a, b: F.gaussian_nll_loss(
            a, b, torch.full_like(a, 0.49), full=True, reduction="none"
        ),
    ),
    "gaussian learned": (
        lambda a, b: likelihoods.gaussian_learned_variance_nll((a, b), jnp.asarray(SHARE)),
        lambda a, b: F.gaussian_nll_loss(
            a, torch.tensor(SHARE), torch.exp(b), full=True, reduction="none", eps=1e-12
        ),
    ),
    "categorical": (
        lambda a, b: likelihoods.categorical_nll(a, jnp.asarray(LABELS)),
        lambda a, b: F.cross_entropy(
            a.reshape(-1, 2), torch.tensor(LABELS).reshape(-1), reduction="none"
        ).reshape(4, 3),
    ),
    "kl to the standard normal": (
        vae.gaussian_kl,
        lambda a, b: torch.distributions.kl_divergence(
            normal(a, b), normal(torch.zeros(1), torch.zeros(1))
        ),
    ),
    "kl to another": (
        lambda a, b: vae.gaussian_kl(a, b, (b, a / 3)),
        lambda a, b: torch.distributions.kl_divergence(normal(a, b), normal(b, a / 3)),
    ),
    "non-saturating critic": (
        lambda a, b: gan.non_saturating.discriminator(a[:, 0, 0], b[:, 0, 0]),
        lambda a, b: (
            F.binary_cross_entropy_with_logits(a[:, 0, 0], torch.ones(4), reduction="none")
            + F.binary_cross_entropy_with_logits(b[:, 0, 0], torch.zeros(4), reduction="none")
        ),
    ),
    "smoothed critic": (
        lambda a, b: gan.label_smoothing(0.9, 0.1).discriminator(a[:, 0, 0], b[:, 0, 0]),
        lambda a, b: (
            F.binary_cross_entropy_with_logits(a[:, 0, 0], torch.full((4,), 0.9), reduction="none")
            + F.binary_cross_entropy_with_logits(
                b[:, 0, 0], torch.full((4,), 0.1), reduction="none"
            )
        ),
    ),
    "pairing critic": (
        lambda a, b: gan.relativistic_pairing.discriminator(a[:, 0, 0], b[:, 0, 0]),
        lambda a, b: -F.logsigmoid(a[:, 0, 0] - b[:, 0, 0]),
    ),
    "least squares generator": (
        lambda a, b: gan.least_squares().generator(None, a[:, 0, 0]),
        lambda a, b: 0.5 * F.mse_loss(a[:, 0, 0], torch.ones(4), reduction="none"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_match_torch(name):
    ours, theirs = CASES[name]
    wanted = [torch.tensor(v, requires_grad=True) for v in (A, B)]
    values = theirs(*wanted)
    values = values.sum(tuple(range(1, values.ndim))) if values.ndim > 1 else values
    values.sum().backward()
    np.testing.assert_allclose(ours(A, B), values.detach().numpy(), rtol=1e-5, atol=1e-5)
    slopes = jax.grad(lambda a, b: ours(a, b).sum(), (0, 1))(A, B)
    for slope, there in zip(slopes, wanted, strict=True):
        expected = np.zeros_like(slope) if there.grad is None else there.grad.numpy()
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
