"""What is timed: networks, batches and contenders, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Vae:
    """A dense VAE: H·W·C - hidden - latent and back, Bernoulli likelihood."""

    shape: tuple[int, int, int] = (28, 28, 1)
    hidden: int = 400
    latent: int = 20


@dataclass(frozen=True)
class ConvVae:
    """genjax.models.autoencoder's convolutional encoder and decoder."""

    shape: tuple[int, int, int]
    widths: tuple[int, ...]
    latent: int


@dataclass(frozen=True)
class Dcgan:
    """genjax.models.dcgan: generator widths; the critic has all but the first in reverse."""

    shape: tuple[int, int, int]
    widths: tuple[int, ...]
    latent: int = 100


@dataclass(frozen=True)
class UNet:
    """genjax.models.unet, whose twin is diffusers' UNet2DModel."""

    shape: tuple[int, int, int]
    channels: int
    multipliers: tuple[int, ...]
    attention: tuple[int, ...]
    blocks: int = 1
    head_features: int = 64
    groups: int = 8


@dataclass(frozen=True)
class LucidUNet:
    """denoising-diffusion-pytorch's Unet, whose twin is in linen_unet.py."""

    shape: tuple[int, int, int]
    channels: int
    multipliers: tuple[int, ...]


@dataclass(frozen=True)
class Pixels:
    """No network: the images of a data set are put into batches."""

    shape: tuple[int, int, int]


Network = Vae | ConvVae | Dcgan | UNet | LucidUNet


@dataclass(frozen=True)
class Contender:
    """One library's way to run a case, in a process of its own.

    Attributes:
      library: "genjax", "torch" or "numpy".
      way: of torch "eager", "channels-last" or "compile", or a data loader's settings.
      scan_steps: train steps per dispatch; genjax only.
      data: whether batches come from the input pipeline.
    """

    library: str
    way: str = ""
    scan_steps: int = 1
    data: bool = False

    @property
    def name(self) -> str:
        steps = f", {self.scan_steps} steps per dispatch" if self.scan_steps > 1 else ""
        return f"{self.library} {self.way}".strip() + steps


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      name: the case's name on the command line.
      title: its name in the tables.
      network: what is trained or sampled from; Pixels for an input pipeline alone.
      batch: images per batch.
      contenders: what is timed.
      sampler: of a sampling case.
      steps: of the sampler.
      optional: skipped unless named on the command line.
      wanted: the target for the ratio to the better of PyTorch eager and channels-last.
    """

    name: str
    title: str
    network: Network | Pixels
    batch: int
    contenders: tuple[Contender, ...]
    sampler: str | None = None
    steps: int = 0
    optional: bool = False
    wanted: float | None = None

    @property
    def kind(self) -> str:
        if isinstance(self.network, Pixels):
            return "feeding"
        return "sampling" if self.sampler else "training"

    @property
    def unit(self) -> str:
        return {"feeding": "image", "sampling": "sampling", "training": "train step"}[self.kind]


GENJAX = Contender("genjax")
WAYS = tuple(Contender("torch", way) for way in ("eager", "channels-last", "compile"))
DENSE_WAYS = (WAYS[0], WAYS[2])  # no image layout in a dense network
LOOPS = WAYS[:2]

LOADERS = (
    Contender("genjax", scan_steps=50),
    GENJAX,
    Contender("numpy", "indexing"),
    Contender("torch", "DataLoader"),
    Contender("torch", "DataLoader, 2 workers"),
)

WANTED = {("ddim", 16): 1.2, ("ddim", 1): 2.0}
SAMPLED = UNet((28, 28, 1), 32, (1, 2, 2), (7,))
CHEAP = UNet((28, 28, 1), 16, (1, 2), (), head_features=32)

CASES = (
    Case(
        "unet-diffusers",
        "U-Net of diffusers (64, 128, 128, 128), 32x32x3",
        UNet((32, 32, 3), 64, (1, 2, 2, 2), (16,)),
        16,
        (GENJAX, *WAYS),
        wanted=1.0,
    ),
    Case(
        "unet-lucidrains",
        "U-Net of denoising-diffusion-pytorch, 32 channels, 32x32x3",
        LucidUNet((32, 32, 3), 32, (1, 2, 4, 8)),
        16,
        (GENJAX, *WAYS),
        wanted=1.0,
    ),
    Case(
        "unet-lucidrains-64",
        "U-Net of denoising-diffusion-pytorch, 64 channels, 32x32x3",
        LucidUNet((32, 32, 3), 64, (1, 2, 4, 8)),
        16,
        (GENJAX, *WAYS),
        optional=True,
    ),
    Case(
        "vae",
        "VAE 784-400-20",
        Vae(),
        128,
        (
            GENJAX,
            Contender("genjax", scan_steps=20),
            Contender("genjax", scan_steps=50),
            *DENSE_WAYS,
        ),
        wanted=2.8,
    ),
    Case(
        "vae-data",
        "VAE 784-400-20, input pipeline included",
        Vae(),
        128,
        (
            Contender("genjax", scan_steps=50, data=True),
            *(Contender("torch", p.way, data=True) for p in DENSE_WAYS),
        ),
        wanted=2.8,
    ),
    Case(
        "conv-vae",
        "convolutional VAE, 64x64x3, code 128",
        ConvVae((64, 64, 3), (32, 64, 128, 256), 128),
        64,
        (GENJAX, *WAYS),
        wanted=1.2,
    ),
    Case(
        "conv-vae-28",
        "convolutional VAE, 28x28x1, code 20",
        ConvVae((28, 28, 1), (32, 64), 20),
        128,
        (GENJAX, *WAYS),
        wanted=1.2,
    ),
    Case(
        "dcgan",
        "DCGAN, critic and generator, 28x28x1",
        Dcgan((28, 28, 1), (256, 128, 64)),
        64,
        (GENJAX, *WAYS),
        wanted=1.15,
    ),
    Case(
        "dcgan-64",
        "DCGAN, critic and generator, 64x64x3",
        Dcgan((64, 64, 3), (256, 128, 64, 32)),
        64,
        (GENJAX, *WAYS),
        wanted=1.15,
    ),
    *(
        Case(
            f"{sampler}-{steps}-b{batch}",
            title,
            network,
            batch,
            (GENJAX, *LOOPS),
            sampler,
            steps,
            wanted=WANTED.get((sampler, batch)),
        )
        for sampler, steps, title, network in (
            ("ddpm", 1000, "DDPM 1,000 steps, small U-Net (16, 32) 28x28x1", CHEAP),
            ("ddim", 50, "DDIM 50 steps, U-Net (32, 64, 64) 28x28x1", SAMPLED),
            ("dpm", 20, "DPM-Solver++ 20 steps, U-Net (32, 64, 64) 28x28x1", SAMPLED),
        )
        for batch in (16, 1)
    ),
    *(
        Case(f"feeding-{shape[0]}", f"batches of uint8 {h}x{w}x{c}", Pixels(shape), 128, LOADERS)
        for shape in ((28, 28, 1), (32, 32, 3))
        for h, w, c in (shape,)
    ),
)

# What the README's first command trains, for the time until its first step.
FIRST = Case(
    "first-step",
    "from the command to the first step, ddpm_fashion",
    UNet((28, 28, 1), 16, (1, 2, 4), (7,)),
    32,
    (),
)
