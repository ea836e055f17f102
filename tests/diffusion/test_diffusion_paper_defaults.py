"""Every numeric default of the diffusion modules is the paper's, or ours for a stated reason."""

import math

from genjax import diffusion
from tests.defaults import check_pinned

DDPM = "Ho et al. 2020, arXiv:2006.11239"
DDIM = "Song et al. 2021, arXiv:2010.02502"
IDDPM = "Nichol & Dhariwal 2021, arXiv:2102.09672"
SCORE_SDE = "Song et al. 2021, arXiv:2011.13456"
VDM = "Kingma et al. 2021, arXiv:2107.00630"
GUIDANCE = "Ho & Salimans 2022, arXiv:2207.12598"
EDM = "Karras et al. 2022, arXiv:2206.00364"
IMAGEN = "Saharia et al. 2022, arXiv:2205.11487"
UNIPC = "Zhao et al. 2023, arXiv:2302.04867"
DPM_SOLVER = "Lu et al. 2022, arXiv:2206.00927"
APG = "Sadat et al. 2024, arXiv:2410.02416"
DEIS = "Zhang & Chen 2022, arXiv:2204.13902"
SIGMOID = "Jabri et al. 2022, arXiv:2212.11972"

PAPERS = {
    ("guidance.project", "parallel"): (0.0, f"{APG}: its η"),
    ("guidance.projected", "parallel"): (0.0, f"{APG}: its η"),
    ("guided_samplers.adaptive_projected", "parallel"): (0.0, f"{APG}: its η"),
    ("adams_bashforth.deis", "order"): (4, f"{DEIS}: tAB3, of degree 3"),
    ("adaptive.dpm_solver_adaptive", "end"): (1e-3, DPM_SOLVER),
    ("adaptive.dpm_solver_adaptive", "order"): (3, f"{DPM_SOLVER}: DPM-Solver-23"),
    ("adaptive.dpm_solver_adaptive", "rtol"): (0.05, DPM_SOLVER),
    ("adaptive.dpm_solver_adaptive", "atol"): (0.0078, f"{DPM_SOLVER}: a grey level"),
    ("adaptive.dpm_solver_adaptive", "first"): (0.05, DPM_SOLVER),
    ("correctors.predictor_corrector", "corrections"): (1, SCORE_SDE),
    ("correctors.predictor_corrector", "snr"): (0.16, SCORE_SDE),
    ("correctors.predictor_corrector", "eta"): (1.0, f"{SCORE_SDE}: the ancestral predictor"),
    ("discrete_schedules.DiscreteCosine", "steps"): (1000, DDPM),
    ("discrete_schedules.DiscreteCosine", "s"): (0.008, IDDPM),
    ("discrete_schedules.DiscreteCosine", "max_beta"): (0.999, IDDPM),
    ("discrete_schedules.DiscreteLinear", "steps"): (1000, DDPM),
    ("discrete_schedules.DiscreteLinear", "beta_start"): (1e-4, DDPM),
    ("discrete_schedules.DiscreteLinear", "beta_end"): (0.02, DDPM),
    ("guidance.drop_labels", "probability"): (0.1, GUIDANCE),
    ("learned_schedule.learned", "log_snr_max"): (13.3, VDM),
    ("learned_schedule.learned", "log_snr_min"): (-5.0, VDM),
    ("learned_schedule.learned", "features"): (1024, VDM),
    ("multistep.unipc", "order"): (2, UNIPC),
    ("predictions.Preconditioned", "data_std"): (0.5, EDM),
    ("samplers.ddim", "eta"): (0.0, DDIM),
    ("schedules.EDM", "sigma_min"): (0.002, EDM),
    ("schedules.EDM", "sigma_max"): (80.0, EDM),
    ("schedules.EDM", "rho"): (7.0, EDM),
    ("schedules.LinearLogSNR", "log_snr_max"): (13.3, VDM),
    ("schedules.LinearLogSNR", "log_snr_min"): (-5.0, VDM),
    ("schedules.Sigmoid", "start"): (-3.0, SIGMOID),
    ("schedules.Sigmoid", "end"): (3.0, SIGMOID),
    ("schedules.SubVP", "beta_min"): (0.1, SCORE_SDE),
    ("schedules.SubVP", "beta_max"): (20.0, SCORE_SDE),
    ("schedules.VE", "sigma_min"): (0.01, SCORE_SDE),
    ("schedules.VE", "sigma_max"): (50.0, SCORE_SDE),
    ("schedules.VP", "beta_min"): (0.1, SCORE_SDE),
    ("schedules.VP", "beta_max"): (20.0, SCORE_SDE),
    ("singlestep.dpm_solver", "order"): (2, f"{DPM_SOLVER}: DPM-Solver-2"),
    ("steps.karras", "sigma_min"): (0.002, EDM),
    ("steps.karras", "sigma_max"): (80.0, EDM),
    ("steps.karras", "rho"): (7.0, EDM),
    ("steps.linear_log_snr", "end"): (1e-3, DPM_SOLVER),
    ("thresholding.dynamic", "quantile"): (0.995, IMAGEN),
}
OURS = {
    ("adaptive.dpm_solver_adaptive", "begin"): (1.0, "pure noise"),
    ("adaptive.dpm_solver_adaptive", "safety"): (0.81, "k-diffusion's: 0.9 squared"),
    ("adaptive.dpm_solver_adaptive", "limit"): (1000, "30 times what it takes"),
    ("adams_bashforth.lms", "order"): (4, "k-diffusion's"),
    ("guided_samplers.adaptive_projected", "momentum"): (0.0, "none"),
    ("guided_samplers.adaptive_projected", "eta"): (0.0, "draws nothing"),
    ("guided_samplers.cfg_plus_plus", "eta"): (0.0, "draws nothing"),
    ("guidance.classifier_free", "rescale"): (0.0, "plain guidance"),
    ("multistep.dpm_solver_2m", "eta"): (0.0, "the ODE solver"),
    ("multistep.dpm_solver_3m", "eta"): (0.0, "the ODE solver"),
    ("samplers.Churn", "low"): (0.0, "no bound"),
    ("samplers.Churn", "high"): (math.inf, "no bound"),
    ("samplers.Churn", "noise"): (1.0, "the added noise as it is"),
    ("samplers.ancestral", "variance"): (0.0, "β̃, the variance of the posterior given x̂"),
    ("sampling_loop.earlier", "by"): (1, "the step before"),
    ("sampling_loop.SamplingLoop.run", "every"): (1, "one evaluation per step"),
    ("schedules.Cosine", "log_snr_max"): (20.0, "e^−10 of noise: below the steps of 8 bits"),
    ("schedules.Cosine", "log_snr_min"): (-20.0, "e^−10 of signal: unseen under the noise"),
    ("schedules.Sigmoid", "temperature"): (1.0, "the sigmoid as it is"),
    ("singlestep.dpm_solver", "eta"): (0.0, "the ODE solver"),
    ("singlestep.dpm_solver_2s", "eta"): (0.0, "the ODE solver"),
    ("singlestep.dpm_solver_sde", "eta"): (1.0, "the SDE solver of its name"),
    ("steps.linear", "start"): (1.0, "pure noise"),
    ("steps.linear", "end"): (0.0, "the data"),
    ("steps.linear_log_snr", "start"): (1.0, "pure noise"),
    ("steps.quadratic", "start"): (1.0, "pure noise"),
    ("steps.quadratic", "end"): (0.0, "the data"),
    ("thresholding.dynamic", "limit"): (1.0, "images in −1..1"),
    ("thresholding.static", "low"): (-1.0, "images in −1..1"),
    ("thresholding.static", "high"): (1.0, "images in −1..1"),
}


def test_every_numeric_default_is_in_one_of_the_two_tables_with_its_value():
    check_pinned(diffusion, PAPERS, OURS)
