"""What settings the images suggest, for each experiment: `python -m experiments.NAME --suggest`.

An experiment's `Config.suggest` is one of these: (config, default, facts) -> suggestions, where
`default` holds the settings of no flags, or of a preset. What has nothing to do with the images
is not among them: sampler, optimizer, dtype.
"""

import math

from experiments import suggestion_rules as rules
from experiments.adversarial import FEW
from experiments.suggestion_rules import EDM, EDM2, JIT, SIMPLE, STYLEGAN
from genjax.run.suggestions import Suggestion


def edm(config, default, facts):
    """Of EDM."""
    run = rules.length(config, default, facts)
    found = [*run.found, *rules.levels(default, facts), rules.channels(default, facts)]
    found += [*rules.noise_levels(default, facts), rules.rate(config, default, run)]
    found.append(rules.kept_share(default, "warm_up", run.share_of_images))
    if default.reference is not None:
        found.append(rules.kept_share(default, "reference", run.share_of_images))
    if default.half_life:
        each = tuple(rules.proportional(life, run.share_of_images) for life in default.half_life)
        found.append(Suggestion("half_life", each, "the default's share of the run", EDM2))
    found.append(rules.dropout(default, facts, run.seen))
    if config.network != "edm2":
        often, why = rules.repeated(facts, run.seen)
        found.append(Suggestion("augment", (default.augment or 0.12) if often else 0.0, why, EDM))
    return found + rules.classes(config, default, facts)


def consistency(config, default, facts):
    """Of consistency models of EDM's network."""
    run = rules.length(config, default, facts)
    # Where noise levels lie is the method's, not the images'.
    found = [each for each in edm(config, default, facts) if not each.setting.startswith("noise_")]
    return [*found, rules.kept_share(default, "teacher_steps", run.share_of_steps)]


def restore(config, default, facts):
    """Of restoration with a U-Net."""
    run = rules.length(config, default, facts)
    found = [*run.found, *rules.levels(default, facts), rules.channels(default, facts)]
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    return [*found, rules.dropout(default, facts, run.seen)]


def flow(config, default, facts):
    """Of flow matching with a U-Net."""
    run = rules.length(config, default, facts)
    return [*restore(config, default, facts), rules.flip(facts, run.seen)]


def diffusion(config, default, facts):
    """Of the DDPMs."""
    return flow(config, default, facts) + rules.classes(config, default, facts)


def mean_velocity(config, default, facts):
    """Of a transformer that learns a velocity or its mean."""
    run = rules.length(config, default, facts)
    found = [*run.found, rules.patch(config, facts, of_data=False)]
    return found + _of_transformers(config, default, facts, run)


def transformer(config, default, facts):
    """Of flow matching with a transformer."""
    if config.output == "data":
        run = rules.length(config, default, facts)
        side = rules.patch(config, facts, of_data=True)
        numbers, value = side.value**2 * facts.spec.shape[-1], default.bottleneck
        if value is None and numbers > config.width:
            value = config.width // 2
        elif value is not None and value > numbers:
            value = None
        why = f"a patch has {numbers} numbers, a token {config.width} features"
        found = [*run.found, side, Suggestion("bottleneck", value, why, JIT)]
        found += _of_transformers(config, default, facts, run)
    else:
        found = mean_velocity(config, default, facts)
    if default.times_mean is not None:
        more = max(0.0, math.log(facts.side / 256))
        why = "up to 256 pixels; above, ln(side / 256) more, as noise must hide more of the same"
        value = round(default.times_mean + more, 1) if more else default.times_mean
        found.append(Suggestion("times_mean", value, why, f"{JIT}; {SIMPLE}"))
    return found


def _of_transformers(config, default, facts, run):
    why = f"{config.depth} blocks of {config.width}: time sets the size of a network, not images"
    found = [Suggestion("width", default.width, why), Suggestion("depth", default.depth, why)]
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    found += [rules.dropout(default, facts, run.seen), rules.flip(facts, run.seen)]
    return found + rules.classes(config, default, facts)


def dcgan(config, default, facts):
    """Of the DCGAN."""
    widths = _doubling(default, facts, "arXiv:1511.06434, figure 1")
    run = rules.length(config, default, facts)
    return [*adversarial(config, default, facts), widths, *rules.by_steps(run, default)]


def stylegan(config, default, facts):
    """Of StyleGAN2."""
    widths = _doubling(default, facts, "arXiv:1912.04958, released code")
    return [*adversarial(config, default, facts), widths]


def _doubling(default, facts, paper):
    """Widths of a generator whose resolution doubles."""
    k, most = rules.halvings(facts, len(default.widths) - 1, least=1), len(default.widths)
    usual = default.widths[max(0, most - k - 1) :]
    value = (*(usual[0] << i for i in range(k + 1 - len(usual), 0, -1)), *usual)
    why = f"{k} doublings from {facts.spec.shape[0] >> k} pixels high to the image"
    return Suggestion("widths", value, why, paper)


def r3gan(config, default, facts):
    """Of R3GAN."""
    run = rules.length(config, default, facts)
    k = rules.halvings(facts, len(default.widths) - 1)
    # The lowest resolution has the most channels: a smaller image goes without the highest.
    value = rules.per_level(default.widths, k + 1)
    why = f"{k} doublings from {facts.spec.shape[0] >> k} pixels high to the image"
    found = [*adversarial(config, default, facts), Suggestion("widths", value, why)]
    why = "0.05 to 150 in the paper, found by trial: more for larger images, fewer and alike"
    found.append(Suggestion("gamma", default.gamma, why, "arXiv:2501.05441"))
    return [*found, rules.kept_share(default, "half_life", run.share_of_images)]


def gan(config, default, facts):
    """Of the GAN of dense layers."""
    numbers = math.prod(facts.spec.shape)
    value = max(default.hidden, min(1024, numbers // 3 // 64 * 64))
    why = f"about a third of the {numbers:,} numbers of an image, at most 1,024"
    return [*adversarial(config, default, facts), Suggestion("hidden", value, why)]


def adversarial(config, default, facts):
    """Of both."""
    run, n = rules.length(config, default, facts), facts.spec.count
    value, why = "none", f"{n:,} images, {rules.passes(run.seen, facts)}"
    if n < FEW and rules.repeated(facts, run.seen)[0] and facts.spec.shape[-1] in (1, 3):
        value, why = "ada", f"{why}: a critic learns fewer than {FEW:,} by heart"
    elif n < FEW and facts.asymmetry <= rules.MIRRORED:
        value, why = "flip", f"{why}; left-right asymmetry {facts.asymmetry:.3f}"
    found = [
        *run.found,
        rules.rate(config, default, run),
        Suggestion("augment", value, why, STYLEGAN),
    ]
    why = "noise to draw from: the images ask for no other"
    found.append(Suggestion("latent", default.latent, why, "arXiv:1511.06434"))
    return found + rules.classes(config, default, facts)


def autoencoder(config, default, facts):
    """Of the plain autoencoder."""
    run = rules.length(config, default, facts)
    found = [*run.found, rules.code(facts, 0), _convolutions(default, facts)]
    return [*found, rules.rate(config, default, run)]


def vae(config, default, facts):
    """Of the VAE with a Bernoulli likelihood."""
    run, conv = rules.length(config, default, facts), _convolutions(default, facts)
    found = [*run.found, rules.code(facts, default.latent), conv]
    if not conv.value:
        why = "found on images of 784 numbers; more is slower and overfits sooner"
        found.append(Suggestion("hidden", default.hidden, why, "arXiv:1312.6114"))
    why = f"the bound itself; {facts.extremes:.0%} of the numbers are nearly black or white, as "
    why += "the Bernoulli likelihood takes all to be"
    if facts.extremes < 0.5:
        why += ": vae_cifar10 has a likelihood of all levels"
    found.append(Suggestion("beta", default.beta, why, "arXiv:1312.6114"))
    return [*found, rules.rate(config, default, run), *rules.classes(config, default, facts)]


def convolutional_vae(config, default, facts):
    """Of the VAE with a mixture of logistics."""
    run = rules.length(config, default, facts, side=32)
    found = [*run.found, rules.code(facts, default.latent), rules.widths(default, facts)]
    warm_up = rules.kept_share(default, "warm_up", run.share_of_steps)
    return [*found, rules.rate(config, default, run), warm_up]


def vdvae(config, default, facts):
    """Of the very deep VAE."""
    run, (height, width, _) = rules.length(config, default, facts), facts.spec.shape
    k = rules.halvings(facts, len(default.pooling) - 1)
    rest = math.gcd(height >> k, width >> k)
    factors = (2,) * k + ((rest,) if rest > 1 else ())
    paper = "arXiv:2011.10650"
    whole = math.prod(factors)
    why = f"{k} halvings, then to a coarsest grid of {height // whole}x{width // whole}"
    found = [*run.found, Suggestion("pooling", factors, why, paper)]
    for name in ("encoder_blocks", "decoder_blocks"):
        value = rules.per_level(getattr(default, name), len(factors) + 1)
        found.append(Suggestion(name, value, "the default's, for each of these resolutions", paper))
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    return found + rules.classes(config, default, facts)


def latent(config, default, facts):
    """Of diffusion over the codes of an autoencoder."""
    run = rules.length(config, default, facts, side=64)
    found = [*run.found, rules.kept_share(default, "autoencoder_steps", run.share_of_steps)]
    found += [rules.code(facts, default.latent), rules.widths(default, facts)]
    return [*found, rules.rate(config, default, run), *rules.by_steps(run, default)]


def latent_diffusion(config, default, facts):
    """Of diffusion on a spatial autoencoder's latents."""
    run, (height, width, _) = rules.length(config, default, facts, side=64), facts.spec.shape
    usual = default.autoencoder.multipliers
    k = rules.halvings(facts, len(usual) - 1)
    value = rules.per_level(usual, k + 1)
    why = f"latents of {height >> k}x{width >> k}, as near to the default's as the sides allow"
    found = [*run.found, Suggestion("autoencoder.multipliers", value, why, "arXiv:2112.10752")]
    steps = rules.proportional(default.autoencoder.steps, run.share_of_steps)
    found.append(Suggestion("autoencoder.steps", steps, "the default's share of the run"))
    odd = (height >> k) % 2 or (width >> k) % 2
    if config.prior == "dit":
        found.append(Suggestion("patch", 1 if odd else default.patch, "it divides the latents"))
    else:
        most = default.multipliers
        while any((side >> k) % 2 ** (len(most) - 1) for side in (height, width)):
            most = most[:-1]
        found.append(Suggestion("multipliers", most, "halvings that the latents allow"))
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    return found + rules.classes(config, default, facts)


def vqvae(config, default, facts):
    """Of an autoencoder with codes and a prior over them."""
    run, (height, width, _) = rules.length(config, default, facts), facts.spec.shape
    mine = "autoencoder."
    k = rules.halvings(facts, default.autoencoder.halvings, least=1)
    why = f"{height >> k}x{width >> k} codes, as near to the default's as the sides allow"
    found = [*run.found, Suggestion(f"{mine}halvings", k, why, "arXiv:1711.00937")]
    steps = rules.proportional(default.autoencoder.steps, run.share_of_steps)
    found.append(Suggestion(f"{mine}steps", steps, "the default's share of the run"))
    value, why = rules.data_std(default.autoencoder, facts)
    found.append(Suggestion(f"{mine}data_std", value, why))
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    found.append(rules.flip(facts, run.seen))
    return found + rules.classes(config, default, facts)


def iwae(config, default, facts):
    """Of the IWAE."""
    batch, n, paper = rules.batch_size(default, facts), facts.spec.count, "arXiv:1509.00519"
    why = f"3,280 passes over {n:,} images, after which its rates end"
    steps = Suggestion("run.steps", round(3280 * n / batch.value), why, paper)
    why = "all pixels are 0 or 1" if facts.binary else "grey values: the likelihood is of 0 and 1"
    return [batch, steps, Suggestion("dynamic", not facts.binary, why, paper)]


def made(config, default, facts):
    """Of MADE."""
    run = rules.length(config, default, facts)
    why = f"{math.prod(facts.spec.shape):,} pixels, drawn as 0 or 1 from their grey values: "
    why += f"{facts.extremes:.0%} are nearly that"
    found = [*run.found, Suggestion("widths", default.widths, why, "arXiv:1502.03509")]
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    return found + rules.classes(config, default, facts)


def pixelcnn(config, default, facts):
    """Of PixelCNN."""
    run = rules.length(config, default, facts)
    value = facts.spec.shape[-1] == 1 and (facts.binary or default.binary)
    why = f"{facts.extremes:.0%} of the numbers are nearly black or white"
    why += ", and each is drawn as 0 or 1" if value else ": a mixture has all levels"
    found = [*run.found, Suggestion("binary", value, why), rules.channels(default, facts)]
    found += [rules.rate(config, default, run), *rules.by_steps(run, default)]
    found.append(rules.dropout(default, facts, run.seen))
    return found + rules.classes(config, default, facts)


def classifier(config, default, facts):
    """Of the classifier."""
    run = rules.length(config, default, facts)
    few = facts.spec.count < 1000 * max(1, facts.spec.classes)
    why = f"{facts.spec.count / max(1, facts.spec.classes):,.0f} images per class"
    shift = Suggestion("shift", 0.1 if few else 0.0, why)
    return [*run.found, shift, rules.flip(facts, run.seen), rules.rate(config, default, run)]


def _convolutions(default, facts):
    """Whether convolutions, for images of more numbers than dense layers do for."""
    numbers = math.prod(facts.spec.shape)
    if any(side % 4 or side < 16 for side in facts.spec.shape[:2]):
        return Suggestion("conv", False, "they need sides that are multiples of 4")
    why = f"{numbers:,} numbers: {'many' if numbers > 1024 else 'few enough'} for dense layers"
    return Suggestion("conv", default.conv or numbers > 1024, why)
