"""VQ-VAE: an autoencoder with a grid of discrete codes, then an autoregressive prior over them.

van den Oord et al., "Neural Discrete Representation Learning" (2017), with a causal transformer in
the place of the PixelCNN. --quantizer vq: one codebook, a moving average of latents, whose unused
vectors restart; residual: several, each for what those before left over; fsq: finite scalars,
without a codebook (Mentzer et al., 2023). The autoencoder's own run is in the folder autoencoder of
the run, and its metrics say how many codes are in use (perplexity).

    python -m experiments.vqvae
    python -m experiments.vqvae sample --temperature 0.8 --top-k 20
    python -m experiments.vqvae reconstruct              # what the codes keep of images

Expect shirts, trousers, boots and bags, soft, about one in six of them torn.

--preset paper: the autoencoder of the authors' example for CIFAR-10, 8x8 codes of 512, and a prior
of 29 million parameters; for a GPU.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax

from experiments import checks, matching, suggestions
from experiments.code_prior import CodePriorSettings
from experiments.vq_autoencoder import NAME, AutoencoderSettings, Codec, FirstStage, Quantizer
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux

PRIOR = "prior"  # the player of the last stage


@dataclass(frozen=True)
class Config(CodePriorSettings):
    run: Settings = Settings(steps=2500, batch=32, every=500)
    data: DataSettings = DataSettings()
    quantizer: Quantizer = "vq"
    """One codebook, finite scalars without a codebook, or several codebooks."""
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    check = checks.vqvae
    suggest = suggestions.vqvae


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    codec = Codec(config, spec.shape)
    network = config.prior(codec.count, codec.grid, classes)

    def init(key, before):
        params = network.init(key, jnp.zeros((1, network.length), jnp.int32))
        return {NAME: before.params[NAME], PRIOR: params}, before.variables

    def nll(params, state, key, batch, train):
        change, drop = keys.split(key, 2)
        x, label = matching.inputs(config, batch, change, classes, train)
        codes = codec.encode(state, x).reshape(len(x), -1)
        logits = network.apply(params, codes, label, keys=drop if train else None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, codes).sum(1)

    def loss(params, state, key, batch):
        return nll(params[PRIOR], state, key, batch, True).mean(), Aux()

    def validate(state, key, batch):
        return {"codes_nll": nll(state.averaged()[PRIOR], state, key, batch, False)}

    def measure(state, key, batch):
        return {**validate(state, key, batch), "psnr": codec.psnr(state, None, batch["image"])}

    def generate(state, key, z, label):
        how = {"temperature": config.temperature, "top_k": config.top_k}
        codes = network.draw(state.averaged()[PRIOR], z, label, **how)
        return codec.decode(state, codes.reshape(len(z), *codec.grid))

    def draw(key, n):
        return keys.uniform(keys.per_example(key, n), (n, network.length))

    return Family(
        {PRIOR: config.optimizer.player(loss, config.rate, ema=config.ema, b2=config.b2)},
        init,
        generate,
        draw=draw,
        classes=classes,
        validate=validate,
        measure=Measure(measure, {"codes_nll": "nats per image", "psnr": "dB"}),
        reconstruct=codec.reconstruct,
        before=FirstStage(config, codec).family(),
    )


PAPER = Config(
    width=512, depth=6, heads=8, learning_rate=3e-4, warm_up=1000, ema=0.9999,
    data=DataSettings("cifar10"), run=Settings(steps=100_000, batch=128, every=5000),
    autoencoder=AutoencoderSettings(
        steps=250_000, channels=128, codes=512, latent=64, data_std=0.5, learning_rate=2e-4
    ),
)  # fmt: skip

if __name__ == "__main__":
    main("vqvae", __doc__, Config(), build, {"paper": PAPER})
