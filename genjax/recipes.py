"""The training recipes of papers as values: which schedule, prediction, times and weight.

A recipe is what the arguments of `losses.diffusion.denoising` have to be for a paper's loss, so
that "where is the EDM loss?" has an answer:

    recipe = recipes.edm
    loss = recipe.loss(network, x, key)  # [B]
    images = samplers.heun(
        recipe.predict(network), key, shape, schedule=recipe.schedule, target=recipe.target, …
    )

Any part can be exchanged: `dataclasses.replace(recipes.ddpm, weight=weightings.min_snr())`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from genjax.diffusion import discrete_schedules, predictions, protocols, schedules
from genjax.losses import times, weightings
from genjax.losses.diffusion import denoising
from genjax.numerics import expand


@dataclass(frozen=True)
class Recipe:
    r"""One way to train a diffusion model, and what its network sees.

    $$
    w(\lambda_t) \, \lVert \mathrm{target}(x, \varepsilon) - \mathrm{predict}(z_t, t) \rVert^2,
    \qquad t \sim \mathrm{times}, \quad z_t = \alpha(t) \, x + \sigma(t) \, \varepsilon
    $$

    Args:
      schedule: the noise schedule.
      target: what the network predicts.
      times: (key, n) -> t [n].
      weight: λ -> w, on the squared error of `target`.
      precondition: (z, t, schedule, target) -> the two inputs of the network; z and t themselves by
        default.
    """

    schedule: protocols.Schedule
    target: predictions.Prediction
    times: Callable[[Array, int], Array] = times.Uniform()
    weight: Callable[[Array], Array] = weightings.simple
    precondition: Callable[..., tuple[Array, Array]] = lambda z, t, schedule, target: (z, t)

    def predict(self, network: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        """The network as losses and samplers call it.

        Args:
          network: (input [B, ...], condition [B]) -> the prediction of `target`.

        Returns:
          predict(z [B, ...], t [B]) -> the prediction of `target`, like z.
        """
        return lambda z, t: network(*self.precondition(z, t, self.schedule, self.target))

    def loss(self, network: Callable[[Array, Array], Array], x: Array, key: Array) -> Array:
        """The loss of a batch.

        Args:
          network: (input [B, ...], condition [B]) -> the prediction of `target`, of x's shape.
          x: clean data, [B, ...], in −1..1 where the recipe does not say otherwise.
          key: one key, or one per example [B].

        Returns:
          [B], summed over the elements of an example.
        """
        return denoising(
            self.predict(network),
            x,
            key,
            schedule=self.schedule,
            target=self.target,
            times=self.times,
            weight=self.weight,
        )


def edm_inputs(
    z: Array,
    t: Array,
    schedule: protocols.Schedule,
    target: predictions.Preconditioned,
) -> tuple[Array, Array]:
    r"""The two inputs of EDM's network F.

    $$
    c_{\mathrm{in}} \, z = \frac{z}{\sqrt{\alpha^2 s^2 + \sigma^2}}, \qquad
    c_{\mathrm{noise}} = \tfrac14 \ln \sigma
    $$

    Args:
      z: noisy data, [B, ...].
      t: its times, [B] or a scalar.
      schedule: a schedule with α = 1.
      target: with the standard deviation s of the data.

    Returns:
      z scaled to unit variance, and the noise level.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
        arXiv:2206.00364, table 1.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    scaled = z * expand(target.input_scale(alpha, sigma), z)
    return scaled.astype(z.dtype), 0.25 * jnp.log(sigma)


ddpm = Recipe(discrete_schedules.DiscreteLinear(), predictions.noise, times.Steps(1000))
r"""DDPM: the noise of 1,000 discrete steps with linear β.

$$
\lVert \varepsilon - \varepsilon_\theta(z_t, t) \rVert^2, \qquad t = \frac{i}{1000}, \quad
i \sim U\{1, \ldots, 1000\}
$$

References:
  Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 14.
"""

improved_ddpm = Recipe(discrete_schedules.DiscreteCosine(), predictions.noise, times.Steps(1000))
r"""Improved DDPM's L_simple: the noise of 1,000 discrete steps with the cosine schedule.

$$
\lVert \varepsilon - \varepsilon_\theta(z_t, t) \rVert^2, \qquad
\bar\alpha_i = \frac{f(i)}{f(0)}, \quad
f(i) = \cos^2\!\left(\frac{i/1000 + 0.008}{1.008} \cdot \frac{\pi}{2}\right)
$$

With learned variances the paper's loss is `losses.vlb.hybrid` on the same schedule.

References:
  Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021), arXiv:2102.09672,
    eq. 17.
"""

score_sde_vp = Recipe(schedules.VP(), predictions.noise, times.Uniform(1e-5, 1.0))
r"""Score matching on the variance-preserving SDE, for s = −ε̂/σ.

$$
\sigma(t)^2 \, \lVert s_\theta(z_t, t) - \nabla_{z_t} \ln q(z_t | x) \rVert^2, \qquad
t \sim U(10^{-5}, 1)
$$

As in the paper's code the network's output is divided by σ; here it predicts ε.

References:
  Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations" (2020),
    arXiv:2011.13456, eq. 7 and appendix C.
"""

score_sde_ve = Recipe(schedules.VE(), predictions.noise, times.Uniform(1e-5, 1.0))
r"""Score matching on the variance-exploding SDE, for s = −ε̂/σ and images in 0..1.

$$
\sigma(t)^2 \, \lVert s_\theta(z_t, t) - \nabla_{z_t} \ln q(z_t | x) \rVert^2, \qquad
\sigma(t) = 0.01 \cdot 5000^t, \quad t \sim U(10^{-5}, 1)
$$

References:
  Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations" (2020),
    arXiv:2011.13456, eq. 7 and appendix C.
"""

v_prediction = Recipe(schedules.Cosine(math.inf, -math.inf), predictions.velocity)
r"""The velocity of progressive distillation, "SNR + 1" weighting, in continuous time.

$$
\lVert \alpha \varepsilon - \sigma x - v_\theta(z_t, t) \rVert^2, \qquad
\alpha = \cos \tfrac{\pi t}{2}, \quad \sigma = \sin \tfrac{\pi t}{2}, \quad t \sim U(0, 1)
$$

References:
  Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022),
    arXiv:2202.00512, section 4.
"""

edm = Recipe(
    schedules.EDM(),
    predictions.edm,
    times.LogNormal(schedules.EDM()),
    precondition=edm_inputs,
)
r"""EDM: a preconditioned denoiser D at log-normal noise levels, for data of standard deviation 0.5.

$$
\frac{\sigma^2 + s^2}{(\sigma s)^2} \, \lVert D_\theta(x + \sigma \varepsilon, \sigma) - x \rVert^2,
\qquad \ln \sigma \sim N(-1.2, 1.2^2), \quad s = 0.5
$$

The same loss as ‖F − target‖² of the network itself, whose inputs are `edm_inputs`.

References:
  Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
    arXiv:2206.00364, eq. 8 and table 1.
"""

rectified_flow = Recipe(schedules.RectifiedFlow(), predictions.flow)
r"""Rectified flow, or flow matching with straight paths, at uniform times.

$$
\lVert \varepsilon - x - u_\theta(z_t, t) \rVert^2, \qquad z_t = (1 - t) \, x + t \, \varepsilon,
\quad t \sim U(0, 1)
$$

References:
  Liu et al., "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow"
    (2022), arXiv:2209.03003.
  Lipman et al., "Flow Matching for Generative Modeling" (2022), arXiv:2210.02747.
"""

stable_diffusion_3 = Recipe(schedules.RectifiedFlow(), predictions.flow, times.LogitNormal())
r"""Rectified flow at logit-normal times, "rf/lognorm(0.00, 1.00)".

$$
\lVert \varepsilon - x - u_\theta(z_t, t) \rVert^2, \qquad z_t = (1 - t) \, x + t \, \varepsilon,
\quad \mathrm{logit}(t) \sim N(0, 1)
$$

References:
  Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (2024),
    arXiv:2403.03206, section 3.1.
"""

jit = Recipe(
    schedules.RectifiedFlow(),
    predictions.data,
    times.LogitNormal(0.8, 0.8),
    weightings.velocity_of_data(),
)
r"""JiT: the data, by the loss of the velocity, at logit-normal times.

$$
\left\lVert \frac{z_t - x}{\max(t, 0.05)} - \frac{z_t - x_\theta(z_t, t)}{\max(t, 0.05)}
\right\rVert^2, \qquad z_t = (1 - t) \, x + t \, \varepsilon, \quad
\mathrm{logit}(t) \sim N(0.8, 0.8^2)
$$

Time is reversed from the paper's: t = 0 is the data.

References:
  Li & He, "Back to Basics: Let Denoising Generative Models Denoise" (2025), arXiv:2511.13720,
    table 1, and its code.
"""
