"""What `python -m benchmarks --gpu` times: the networks of ddpm_cifar10, in bfloat16."""

from benchmarks.cases import Case, Contender, UNet

# Ho et al.'s U-Net of 35.7 M parameters.
UNET = UNet((32, 32, 3), 128, (1, 2, 2, 2), (16,), blocks=2, head_features=256, groups=32)
SLOWLY_BUILT = "max-autotune channels-last"  # minutes of trials
WAYS = ("eager", "channels-last", "compile", "compile channels-last", SLOWLY_BUILT)
STEPS = 20  # per dispatch


def _training(batch: int) -> Case:
    single = (Contender("genjax", data=True),) if batch < 512 else ()
    return Case(
        f"unet-{batch}",
        "U-Net of ddpm_cifar10, train step, data included",
        UNET,
        batch,
        (
            Contender("genjax", scan_steps=STEPS, data=True),
            *single,
            *(Contender("torch", way, data=True) for way in WAYS),
        ),
        wanted=1.6,
    )


def _sampling(name: str, sampler: str, steps: int, batch: int) -> Case:
    title = f"{name} {steps:,} steps, U-Net of ddpm_cifar10"
    ways = (Contender("torch", way) for way in ("compile channels-last", "channels-last"))
    contenders = (Contender("genjax"), *ways)
    case = f"{sampler}-{steps}-b{batch}"
    return Case(case, title, UNET, batch, contenders, sampler, steps, wanted=2.0)


TRAINING = (_training(512), _training(128))
SAMPLING = (_sampling("DDIM", "ddim", 50, 512), _sampling("DDPM", "ddpm", 1000, 64))
GPU_CASES = (*TRAINING, *SAMPLING)
