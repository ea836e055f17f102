"""Every numeric default of the editing modules is the paper's, or ours for a stated reason."""

from genjax import edit
from genjax.edit import dps
from tests.defaults import check_pinned

DDNM = "Wang et al. 2023, arXiv:2212.00490: section 4"
DPS = "Chung et al. 2023, arXiv:2209.14687: the default of its program"
REPAINT = "Lugmayr et al. 2022, arXiv:2201.09865, section 5.1"
PIGDM = "Song et al., ICLR 2023"
SDEDIT = "Meng et al. 2022, arXiv:2108.01073: t_0 of its experiments"
STYLEGAN = "Karras et al. 2020, arXiv:1912.04958, appendix D"
DUAL_AVERAGING = "Hoffman & Gelman 2014, arXiv:1111.4246: δ"
MALA = "Roberts & Rosenthal 1998: the best rate of acceptance"

PAPERS = {
    ("ddnm.ddnm", "eta"): (0.85, DDNM),
    ("dps.dps", "scale"): (1.0, DPS),
    ("latent_sampling.hmc", "target_acceptance"): (0.8, DUAL_AVERAGING),
    ("latent_sampling.mala", "target_acceptance"): (0.574, MALA),
    ("pigdm.pigdm", "data_std"): (1.0, f"{PIGDM}: r² = σ²/(1 + σ²), eq. 7"),
    ("pigdm.pigdm", "eta"): (1.0, f"{PIGDM}: section 5"),
    ("projection.latent_moments", "samples"): (10_000, STYLEGAN),
    ("projection.project", "samples"): (10_000, STYLEGAN),
    ("projection.project", "steps"): (1000, STYLEGAN),
    ("projection.project", "rate"): (0.1, STYLEGAN),
    ("projection.project", "noise"): (0.05, STYLEGAN),
    ("projection.project", "noise_ramp"): (0.75, STYLEGAN),
    ("projection.project", "warm_up"): (0.05, STYLEGAN),
    ("projection.project", "cool_down"): (0.25, STYLEGAN),
    ("repaint.repaint", "resamplings"): (10, f"{REPAINT}: r"),
    ("repaint.repaint", "jump"): (10, f"{REPAINT}: j"),
    ("sdedit.sdedit", "strength"): (0.5, SDEDIT),
}
NOISELESS, IMAGES = "nothing was added", "images in −1..1"
CHAINS = "the fewest whose R-hat says something"
OURS = {
    **{(f"{each}.{each}", "noise"): (0.0, NOISELESS) for each in ("ddnm", "dps", "pigdm")},
    ("repaint.repaint", "noise"): (0.0, NOISELESS),
    ("twisted_smc.twisted_smc", "noise"): (0.0, NOISELESS),
    ("directions.linear_probe", "penalty"): (1.0, "of standardized latents: scikit-learn's"),
    ("directions.linear_probe", "folds"): (5, "the usual"),
    ("effects.effects", "step"): (1.0, "one standard deviation of the latents"),
    ("inversion.invert", "iterations"): (10, "1e-4 of an image comes back at 20 steps"),
    ("inversion.interpolate", "iterations"): (10, "as of invert"),
    ("translation.translate", "iterations"): (10, "as of invert"),
    ("latent_importance.importance_resampling", "samples"): (1000, "seconds"),
    ("latent_importance.importance_resampling", "answers"): (4, "as of hmc's chains"),
    ("latent_importance.importance_resampling", "chunk"): (100, "memory of 100 images"),
    ("latent_maximum.maximum_a_posteriori", "starts"): (8, "posteriors have several modes"),
    ("latent_maximum.maximum_a_posteriori", "steps"): (500, "the density no longer grows"),
    ("latent_maximum.maximum_a_posteriori", "rate"): (0.1, "as of project"),
    ("latent_sampling.hmc", "chains"): (4, CHAINS),
    ("latent_sampling.hmc", "draws"): (200, "effective samples in the hundreds"),
    ("latent_sampling.hmc", "warmup"): (200, "as many as are kept"),
    ("latent_sampling.hmc", "thin"): (1, "draws hardly depend on each other"),
    ("latent_sampling.hmc", "leapfrogs"): (16, "a trajectory longer than a deviation"),
    ("latent_sampling.hmc", "step"): (0.5, "the first, in deviations of the prior"),
    ("latent_sampling.mala", "chains"): (4, CHAINS),
    ("latent_sampling.mala", "draws"): (200, "as of hmc"),
    ("latent_sampling.mala", "warmup"): (1000, "a walk at random takes longer"),
    ("latent_sampling.mala", "thin"): (16, "as many decodings per draw as hmc's"),
    ("latent_sampling.mala", "step"): (0.5, "as of hmc"),
    ("operator.Operator", "iterations"): (100, "conjugate gradients of a float32 image"),
    ("operators.random_box", "smallest"): (0.25, "a quarter of a side"),
    ("operators.random_box", "largest"): (0.75, "three quarters"),
    ("operators.random_mask", "hidden"): (0.5, "half of the pixels"),
    **{
        ("operators.outpainting", side): (0, "nothing is missing there")
        for side in ("top", "bottom", "left", "right")
    },
    ("operators.gaussian_blur", "truncate"): (4.0, "deviations: SciPy's"),
    ("operators.motion_blur", "angle"): (0.0, "to the right"),
    ("operators.clipping", "scale"): (2.0, "half of the range is lost"),
    ("operators.clipping", "low"): (-1.0, IMAGES),
    ("operators.clipping", "high"): (1.0, IMAGES),
    ("operators.jpeg", "low"): (-1.0, IMAGES),
    ("operators.jpeg", "high"): (1.0, IMAGES),
    ("twisted_smc.twisted_smc", "data_std"): (1.0, "that of pigdm"),
    ("twisted_smc.twisted_smc", "particles"): (8, "16 images of 28x28 within a minute"),
    ("twisted_smc.twisted_smc", "threshold"): (0.5, "half, as is usual"),
    ("uncertainty.summarize", "level"): (0.9, "a band of 90 %"),
    ("uncertainty.coverage", "level"): (0.9, "as of summarize"),
    ("uncertainty.coverage", "confidence"): (0.95, "as of all intervals"),
}


def test_the_steps_of_dps_are_scaled_from_those_of_the_papers_images():
    assert dps.PAPER_STEPS * dps.PAPER_SIZE == 1000 * 256 * 256 * 3


def test_every_numeric_default_is_in_one_of_the_two_tables_with_its_value():
    check_pinned(edit, PAPERS, OURS)
