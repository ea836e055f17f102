"""The sizes that networks have unless told otherwise are those of their papers."""

import pytest

from genjax import models
from tests.defaults import defaults

STYLEGAN = "Karras et al. 2020, arXiv:1912.04958, released code, at 32x32"
R3GAN = "Huang et al. 2024, arXiv:2501.05441, released code: CIFAR-10"
LDM = "Rombach et al. 2022, arXiv:2112.10752, table 8: f = 8"
VQ_VAE = "Razavi et al. 2019, arXiv:1906.00446"
PAPERS = {
    "edm2_unet.EDM2UNet": (
        {
            "channels": 192,
            "multipliers": (1, 2, 3, 4),
            "blocks": 3,
            "attention": (16, 8),
            "head_features": 64,
        },
        "Karras et al. 2024, arXiv:2312.02696, table 6: EDM2-S",
    ),
    "edm2_unet.EDM2Block": ({"head_features": 64}, "Karras et al. 2024, arXiv:2312.02696"),
    "magnitude_preserving.normalized": (
        {"epsilon": 1e-4},
        "Karras et al. 2024, arXiv:2312.02696, eq. 66",
    ),
    "song_unet.SongUNet": (
        {"channels": 128, "multipliers": (2, 2, 2), "blocks": 4, "attention": (16,)},
        "Karras et al. 2022, arXiv:2206.00364, table 7: DDPM++ at 32x32",
    ),
    "song_unet.fourier_features": (
        {"scale": 16.0},
        "Song et al. 2021, arXiv:2011.13456, appendix C.2",
    ),
    "layers.time_embedding": ({"scale": 1000.0}, "Ho et al. 2020, arXiv:2006.11239: 1,000 steps"),
    "normalization.GroupNorm": ({"groups": 32}, "Wu & He 2018, arXiv:1803.08494"),
    "stylegan.Mapping": ({"layers": 8, "rate": 0.01}, STYLEGAN),
    "stylegan.Equalized": ({"rate": 1.0, "bias": 0.0}, STYLEGAN),
    "stylegan.EqualizedConv": ({"size": 3}, STYLEGAN),
    "stylegan.modulated_conv": ({"epsilon": 1e-8}, STYLEGAN),
    "stylegan.Generator": ({"widths": (512,) * 4, "features": 512, "mapping_layers": 8}, STYLEGAN),
    "stylegan.Critic": ({"widths": (512,) * 4}, STYLEGAN),
    "r3gan.Generator": ({"widths": (768,) * 4, "blocks": 2, "group": 16}, R3GAN),
    "r3gan.Critic": ({"widths": (768,) * 4, "blocks": 2, "group": 16}, R3GAN),
    "top_down.TopDownVAE": (
        {
            "channels": 384,
            "bottleneck": 96,
            "latent": 16,
            "pooling": (2, 2, 2, 4),
            "encoder_blocks": (11, 6, 6, 3, 3),
            "decoder_blocks": (22, 11, 6, 3, 1),
        },
        "Child 2021, arXiv:2011.10650, released code: CIFAR-10",
    ),
    "transformer.Transformer": (
        {"patch": 2, "width": 384, "depth": 12, "heads": 6},
        "Peebles & Xie 2023, arXiv:2212.09748, table 1: DiT-S/2",
    ),
    **{
        f"kl_autoencoder.{name}": (
            {"channels": 128, "multipliers": (1, 2, 4, 4), "blocks": 2, "latent": 4},
            LDM,
        )
        for name in ("Encoder", "Decoder")
    },
    **{
        f"vq_autoencoder.{name}": (
            {"channels": 128, "halvings": 2, "blocks": 2, "block_channels": 32, "latent": 64},
            VQ_VAE,
        )
        for name in ("Encoder", "Decoder")
    },
    "patch_critic.PatchCritic": (
        {"channels": 64, "layers": 3},
        "Isola et al. 2017, arXiv:1611.07004: the 70x70 patch",
    ),
    "masked.MADE": ({"widths": (500, 500)}, "Germain et al. 2015, arXiv:1502.03509, released code"),
}
DROPPED = {("classifier.Classifier", 0.4), ("dcgan.Critic", 0.3), ("song_unet.SongUNet", 0.13)}


@pytest.mark.parametrize("network", PAPERS)
def test_a_network_has_the_sizes_of_its_paper(network):
    sizes, paper = PAPERS[network]
    assert "arXiv:" in paper
    found = {name: value for (where, name), value in defaults(models).items() if where == network}
    assert {name: found[name] for name in sizes} == sizes


def test_nothing_is_dropped_but_where_a_paper_drops():
    found = {
        (where, value) for (where, name), value in defaults(models).items() if name == "dropout"
    }
    assert {row for row in found if row[1]} == DROPPED
    assert len(found) > 10
