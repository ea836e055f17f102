"""Every numeric default of the losses, pinned with the paper that it comes from."""

from genjax import losses
from tests.defaults import numeric_defaults

BOUNDARY = "Song et al., Consistency Models (2023), arXiv:2303.01469"
IMPROVED = "Song & Dhariwal, Improved Consistency Training (2024), arXiv:2310.14189"
AUGMENT = "Zhao et al., Differentiable Augmentation (2020), arXiv:2006.10738, its code"
SMOOTHED = "Salimans et al., Improved Techniques for Training GANs (2016), arXiv:1606.03498"
EDM = "Karras et al., Elucidating the Design Space (2022), arXiv:2206.00364, table 1"
EASY = "Geng et al., Consistency Models Made Easy (2024), arXiv:2406.14548, its code"
MEAN_FLOW = "Geng et al., Mean Flows (2025), arXiv:2505.13447, table 4"
IMPROVED_DDPM = "Nichol & Dhariwal, Improved DDPM (2021), arXiv:2102.09672"
DDPM = "Ho et al., Denoising Diffusion Probabilistic Models (2020), arXiv:2006.11239"
CODES = "van den Oord et al., Neural Discrete Representation Learning (2017), arXiv:1711.00937"
TAMING = "Esser et al., Taming Transformers (2021), arXiv:2012.09841, its code"
LEAST_SQUARES = "Mao et al., Least Squares GAN (2017), arXiv:1611.04076, eq. 9"
SIGMA_VAE = "Rybkin et al., Calibrated Decoders (2021), arXiv:2006.13202, its code"
IWAE = "Burda et al., Importance Weighted Autoencoders (2016), arXiv:1509.00519, section 5"
TC = "Chen et al., Isolating Sources of Disentanglement (2018), arXiv:1802.04942, eq. 4"
LECAM = "Tseng et al., GANs under Limited Data (2021), arXiv:2104.03310, its code"
STYLE = "Karras et al., StyleGAN2 (2020), arXiv:1912.04958, its code"
BRIDGE = "Albergo et al., Stochastic Interpolants (2023), arXiv:2303.08797"
RECTIFIED = "Liu et al., Flow Straight and Fast (2022), arXiv:2209.03003"
LOGIT = "Esser et al., Scaling Rectified Flow Transformers (2024), arXiv:2403.03206"
SCM = "Lu & Song, Continuous-Time Consistency Models (2024), arXiv:2410.11081, section 4.1"
SHORTCUT = "Frans et al., One Step Diffusion via Shortcut Models (2024), arXiv:2410.12557"
MIN_SNR = "Hang et al., Min-SNR Weighting (2023), arXiv:2303.09556"
JIT = "Li & He, Back to Basics (2025), arXiv:2511.13720, its code"
P2 = "Choi et al., Perception Prioritized Training (2022), arXiv:2204.00227"

ADA = "Karras et al., Training GANs with Limited Data (2020), arXiv:2006.06676, its code"

SSIM = "Wang et al., Image Quality Assessment (2004), IEEE TIP 13, section III.C"
SIMILARITY = {
    "window": (11, SSIM),
    "std": (1.5, SSIM),
    "k1": (0.01, SSIM),
    "k2": (0.03, SSIM),
}

# {callable: {parameter: (value, paper)}}
PAPERS = {
    "adaptive_augmentation.adapt": {
        "target": (0.6, ADA),
        "images": (500_000, ADA),
        "interval": (4, ADA),
    },
    "augmentation.brightness": {"strength": (0.5, AUGMENT)},
    "augmentation.saturation": {"strength": (1.0, AUGMENT)},
    "augmentation.contrast": {"strength": (0.5, AUGMENT)},
    "augmentation.translation": {"ratio": (0.125, AUGMENT)},
    "augmentation.cutout": {"ratio": (0.5, AUGMENT)},
    "beta_tc.BetaTC.loss": {"alpha": (1.0, TC), "gamma": (1.0, TC)},
    "consistency.boundary": {"data_std": (0.5, BOUNDARY)},
    "consistency.lognormal_pairs": {"mean": (-1.1, IMPROVED), "std": (2.0, IMPROVED)},
    "consistency.gap_pairs": {
        "mean": (-1.1, EASY),
        "std": (2.0, EASY),
        "slope": (8.0, EASY),
        "sharpness": (1.0, EASY),
    },
    "consistency.halving": {"first": (0.5, EASY), "halvings": (7, EASY)},
    "consistency.doubling": {"first": (10, IMPROVED), "last": (1280, IMPROVED)},
    "consistency.square_root": {"first": (2, BOUNDARY), "last": (150, BOUNDARY)},
    "consistency.teacher_decay": {"first": (2, BOUNDARY), "start": (0.9, BOUNDARY)},
    "continuous_consistency.continuous_consistency": {"constant": (0.1, SCM)},
    "flow.flow_matching": {"sigma_min": (0.0, RECTIFIED)},
    "flow.brownian": {"scale": (2.0, BRIDGE)},
    "gan.adaptive_weight": {"epsilon": (1e-4, TAMING), "most": (1e4, TAMING)},
    "gan.least_squares": {k: (v, LEAST_SQUARES) for k, v in {"a": 0.0, "b": 1.0, "c": 1.0}.items()},
    "gan.label_smoothing": {"real": (0.9, SMOOTHED), "fake": (0.0, SMOOTHED)},
    "importance.log_likelihood": {"samples": (5000, IWAE)},
    "likelihoods.optimal_variance": {"min_sigma": (0.0024787521766663585, SIGMA_VAE)},
    "likelihoods.gaussian_optimal_variance_nll": {"min_sigma": (0.0024787521766663585, SIGMA_VAE)},
    "meanflow.logit_normal_pairs": {
        "mean": (-0.4, MEAN_FLOW),
        "std": (1.0, MEAN_FLOW),
        "distinct": (0.25, MEAN_FLOW),
    },
    "shortcut.shortcut": {"steps": (128, SHORTCUT), "every": (8, SHORTCUT)},
    "meanflow.meanflow": {"power": (1.0, MEAN_FLOW), "constant": (1e-3, MEAN_FLOW)},
    "penalties.lecam": {"decay": (0.99, LECAM)},
    "penalties.path_length": {"decay": (0.99, STYLE)},
    "quantized.Quantized.loss": {"beta": (0.25, CODES)},
    "quantized.update_codebook": {"decay": (0.99, CODES)},
    "lookup_free.LookupFree.loss": {"beta": (0.25, CODES)},
    "structural_similarity.ssim": SIMILARITY,
    "structural_similarity.ms_ssim": SIMILARITY,
    "times.Steps": {"steps": (1000, DDPM)},
    "times.LogitNormal": {"mean": (0.0, LOGIT), "std": (1.0, LOGIT)},
    "times.LogNormal": {"mean": (-1.2, EDM), "std": (1.2, EDM)},
    "times.loss_history": {"kept": (10, IMPROVED_DDPM)},
    "times.probabilities": {"uniform": (1e-3, IMPROVED_DDPM)},
    "times.importance": {"uniform": (1e-3, IMPROVED_DDPM)},
    "vlb.discretized_gaussian": {"levels": (256, DDPM)},
    "vlb.hybrid": {"weight": (1e-3, IMPROVED_DDPM)},
    "weightings.velocity_of_data": {"floor": (0.05, JIT)},
    "weightings.min_snr": {"gamma": (5.0, MIN_SNR)},
    "weightings.p2": {"gamma": (1.0, P2), "k": (1.0, P2)},
    "weightings.edm": {"data_std": (0.5, EDM)},
}

BYTES = "bytes scaled to 0…1"
IMAGES = "the range of images in this code"
# {callable: {parameter: (value, reason)}}
OURS = {
    "augmentation.horizontal_flip": {"probability": (0.5, "an image and its mirror alike often")},
    "augmentation.rotate90": {"probability": (1.0, "the four turns alike often")},
    "autoencoder.RegularizedAutoencoder.loss": {"scale": (0.0, "RAE-L2 has no such part")},
    "beta_tc.BetaTC.loss": {"beta": (1.0, "the ELBO")},
    "continuous_consistency.continuous_consistency": {"warm_up": (1.0, "no warm-up")},
    **{
        f"couplings.{name}": {
            "iterations": (10_000, "a bound, where the tolerance is not reached"),
            "tolerance": (0.01, "each noise is in use within 1 %"),
        }
        for name in ("sinkhorn", "entropic_plan")
    },
    "importance.log_likelihood": {"chunk": (50, "memory")},
    "likelihoods.gaussian_nll": {"sigma": (1.0, "half the squared error, and a constant")},
    "likelihoods.discretized_logistic_nll": {
        "low": (0.0, BYTES),
        "high": (1.0, BYTES),
        "bins": (256, BYTES),
    },
    "likelihoods.discretized_logistic_mixture_nll": {
        "low": (0.0, BYTES),
        "high": (1.0, BYTES),
        "bins": (256, BYTES),
    },
    "lookup_free.LookupFree.loss": {
        "entropy": (0.1, "of the order of the commitment"),
        "diversity": (1.0, "both entropies alike"),
    },
    "lookup_free.lookup_free_quantize": {"temperature": (1.0, "z in units of the codes")},
    "quantized.restart_codes": {"share": (0.03, "as relative to the batch as the average")},
    **{
        f"structural_similarity.{name}": {"low": (-1.0, IMAGES), "high": (1.0, IMAGES)}
        for name in ("ssim", "ms_ssim")
    },
    "times.Uniform": {"low": (0.0, "all times"), "high": (1.0, "all times")},
    "vae.Elbo.loss": {"beta": (1.0, "the ELBO")},
}


def pinned(table):
    return {(name, p): value for name, row in table.items() for p, (value, _) in row.items()}


def test_every_numeric_default_is_from_a_paper_or_has_a_reason():
    assert not pinned(PAPERS).keys() & pinned(OURS).keys()
    found, expected = numeric_defaults(losses), pinned(PAPERS) | pinned(OURS)
    assert {k: v for k, v in found.items() if k not in expected} == {}, "give its paper or a reason"
    assert found == expected


def test_every_paper_and_reason_is_named():
    for _, source in (pair for row in PAPERS.values() for pair in row.values()):
        assert any(char.isdigit() for char in source), source
    assert all(reason for row in OURS.values() for _, reason in row.values())
