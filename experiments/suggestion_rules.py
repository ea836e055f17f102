"""Rules that the suggestions of several experiments share, each for a few settings.

A default that was found on one machine for minutes is taken as a proportion: a warm-up or an
average keeps its share of the run, and the run its time.
"""

import math
from dataclasses import fields
from typing import NamedTuple

from genjax.run.suggestions import Suggestion, nearest_divisor, rounded

EDM, EDM2 = "arXiv:2206.00364", "arXiv:2312.02696"
SIMPLE, JIT, STYLEGAN = "arXiv:2301.11093", "arXiv:2511.13720", "arXiv:2006.06676"
PAPERS_RUN, MOST_PASSES = 5_000_000, 4000  # images of a run; EDM's 200 million of 50,000
MANY_PASSES = 100  # from where a diffusion model of a small set starts to repeat it
MIRRORED = 0.02  # the asymmetry up to which mirrored images look like the others


class Length(NamedTuple):
    """How long a run is, in steps and in images, and as a share of the default run's."""

    found: list[Suggestion]
    batch: int
    steps: int
    seen: int
    share_of_steps: float
    share_of_images: float


def length(config, default, facts, side=28):
    """Channels of the images, batch, steps and evaluations.

    side: of the images that the default settings were found on. A run of minutes takes the same
    time on others; one of a paper has a limit of passes over the images.
    """
    batch, usual = batch_size(default, facts), default.run.steps * default.run.batch
    size = config.run.batch if config.run.batch != default.run.batch else batch.value
    n, part, given = facts.spec.count, default.run.batch / size, config.run.steps
    why = ""
    if usual < PAPERS_RUN and config.data != default.data and facts.side > side:
        part, why = part * (side / facts.side) ** 2, f"about the time of {side}x{side} pixels; "
    steps = max(1, given)  # of a run of no steps nothing can be a share
    if given == default.run.steps:
        steps = proportional(default.run.steps, part)
    if usual >= PAPERS_RUN and given == default.run.steps:
        steps = max(1, min(steps, MOST_PASSES * n // size))
    seen = steps * size
    why += f"{seen:,} images, {passes(seen, facts)}"
    found = [batch]
    if facts.grey:
        same = "all three channels are the same: a third of the work"
        found = [Suggestion("data.channels", 1, same), batch]
    if config.run.minutes and given == default.run.steps:
        why = f"they decide the steps; what follows is for {steps:,}: give the steps of the first "
        found.append(Suggestion("run.minutes", config.run.minutes, why + "run as --run.steps"))
    else:
        found.append(Suggestion("run.steps", steps, why))
        if default.run.every and default.run.steps:
            every = math.ceil(default.run.every * steps / default.run.steps)
            again = f"{math.ceil(steps / every)} evaluations, as in the default run"
            found.append(Suggestion("run.every", every, again))
    shares = steps / max(1, default.run.steps), seen / max(1, usual)
    return Length(found, size, steps, seen, *shares)


def batch_size(default, facts):
    n, size = facts.spec.count, default.run.batch
    while size > 4 and 2 * size > n:
        size //= 2
    why = f"at most half of the {n:,} images; rate and averages were found at {default.run.batch}"
    return Suggestion("run.batch", size, why)


def passes(seen, facts):
    return f"{seen / facts.spec.count:,.1f} passes over {facts.spec.count:,}"


def proportional(value, part):
    """A length in images or steps, in a run that is longer by a factor."""
    return value if part == 1 or not value else max(1, round(rounded(value * part)))


def kept_share(default, name, part):
    """A length that keeps its share of the run."""
    value = getattr(default, name)
    why = "the default's share of the run" if value else "none, at any length of the run"
    return Suggestion(name, proportional(value, part), why)


def by_steps(run, default):
    """Warm-up and average where they are lengths in steps."""
    names = {field.name for field in fields(default)}
    found = [kept_share(default, "warm_up", run.share_of_steps)] if "warm_up" in names else []
    if default.ema:
        half = math.log(0.5) / math.log(default.ema) * run.share_of_steps
        value = default.ema
        if run.share_of_steps != 1:
            value = round(1 - rounded(1 - 0.5 ** (1 / half)), 6)
            value = min(value, max(default.ema, 0.9999))
        why = f"forgets half in {half:,.0f} of {run.steps:,} steps, the default's share of the run"
        found.append(Suggestion("ema", value, why, EDM2))
    return found


def rate(config, default, run):
    """The learning rate, at another batch, or another width that was asked for."""
    value, whys, papers = default.learning_rate, [], []
    batch = run.batch / default.run.batch
    width = getattr(default, "channels", 1) / getattr(config, "channels", 1)
    if batch != 1:
        whys, papers = ["Adam's goes with the root of the batch"], ["arXiv:2205.10287"]
    if width != 1:
        whys.append("it goes with one over the channels")
        papers.append("arXiv:2203.03466")
    if whys:
        value = rounded(value * width * math.sqrt(batch))
    why = "; ".join(whys) or "it goes with network and batch, not with the images"
    return Suggestion("learning_rate", value, why, "; ".join(papers))


def halvings(facts, usual, *, least=0, coarsest=8):
    """How often a network halves the images: as usual, further while they are larger than that."""
    sides, k = facts.spec.shape[:2], 0

    def fits(k):
        return all(side % 2**k == 0 and side >> k >= 4 for side in sides)

    while fits(k + 1) and (k < usual or min(sides) >> k > coarsest):
        k += 1
    return max(k, least)


def per_level(usual, count):
    """A default's values for fewer levels, or for more, which repeat the last."""
    return (*usual[:count], *[usual[-1]] * (count - len(usual)))


def levels(default, facts):
    """Levels of a U-Net, and which attend."""
    usual, (height, width, _) = default.multipliers, facts.spec.shape
    k = halvings(facts, len(usual) - 1)
    value = per_level(usual, k + 1)
    why = f"{k + 1} levels, {height} to {height >> k} pixels high"
    if k < len(usual) - 1 or min(height, width) >> k > 8:
        why += f"; {height}x{width} cannot be halved further"
    heights = [height >> i for i in range(k + 1)]
    attend = tuple(each for each in default.attention if each in heights)
    if default.attention and not attend and heights[-1] <= 16:
        attend = (heights[-1],)
    reason = f"of the heights {', '.join(map(str, heights))} those where attention is affordable"
    return [Suggestion("multipliers", value, why), Suggestion("attention", attend, reason)]


def channels(default, facts):
    cost = facts.side**2 / 28**2
    why = f"time sets the width, not the images; a step costs {cost:.2g} times that of 28x28"
    return Suggestion("channels", default.channels, why)


def widths(default, facts):
    """Channels of an autoencoder after each halving."""
    usual, k = default.widths, halvings(facts, len(default.widths), least=1, coarsest=4)
    value = per_level(usual, k)
    return Suggestion("widths", value, f"{k} halvings, to {facts.spec.shape[0] >> k} pixels high")


def data_std(default, facts):
    """The deviation of the data, the default's where it is near, and why."""
    deviation = round(facts.deviation, 2) or 0.01
    if abs(deviation - default.data_std) <= 0.05 * default.data_std:
        deviation = default.data_std
    return deviation, f"the deviation of the numbers in −1..1 is {facts.deviation:.3f}"


def noise_levels(default, facts):
    """EDM's scale of the data, and the distribution of ln σ."""
    deviation, why = data_std(default, facts)
    found = [Suggestion("data_std", deviation, why, f"{EDM}, table 1")]
    large, more = facts.side >= 64, max(0.0, math.log(facts.side / 64))
    centre, spread, paper = (-0.8, 1.6, EDM2) if large else (-1.2, 1.2, EDM)
    mean = centre + math.log(deviation / 0.5) + more
    why = f"{centre} {'from' if large else 'below'} 64 pixels, and ln(deviation / 0.5)"
    if more:
        why, paper = f"{why}, and ln(side / 64)", f"{paper}; {SIMPLE}"
    near = abs(mean - default.noise_mean) <= 0.15
    mean = default.noise_mean if near else round(mean, 1)
    found.append(Suggestion("noise_mean", mean, why, paper))
    why = "that of ImageNet at 64 pixels" if large else "that of CIFAR-10"
    return [*found, Suggestion("noise_std", spread, why, EDM2 if large else EDM)]


def repeated(facts, seen):
    """Whether each image is seen so often that a diffusion model starts to copy, and a reason."""
    often = seen > MANY_PASSES * facts.spec.count
    return often, f"{passes(seen, facts)}: {'against copies' if often else 'too few to repeat it'}"


def dropout(default, facts, seen):
    often, why = repeated(facts, seen)
    value = (default.dropout or 0.1) if often else 0.0
    return Suggestion("dropout", value, why, "arXiv:2006.11239, appendix B")


def flip(facts, seen):
    why, symmetric = f"left-right asymmetry {facts.asymmetry:.3f}", facts.asymmetry <= MIRRORED
    again = seen > facts.spec.count
    if symmetric and again:
        why += ": mirrored images look like these; not for letters"
    elif symmetric:
        why += f", but {passes(seen, facts)}: nothing is seen twice"
    else:
        why += ": mirrored images would be others"
    return Suggestion("flip", symmetric and again, why)


def classes(config, default, facts):
    """Labels where there are any; what depends on them goes with them."""
    n = facts.spec.classes
    if n >= 2:
        least = "" if facts.smallest is None else f" of {facts.smallest:,} images or more"
        why = f"{n} classes{least}: --classes lets you ask for one"
        return [Suggestion("classes", default.classes, why)]
    found = [Suggestion("classes", False, "the images have no labels of several classes")]
    for name in ("label_dropout", "guidance", "context", "context_start"):
        usual = getattr(type(config), name, None)
        if hasattr(config, name) and getattr(default, name) != usual:
            found.append(Suggestion(name, usual, "has no effect without classes"))
    return found


def code(facts, least):
    """Numbers in a code."""
    known = facts.components(0.8)
    value = max(2, min(known, 256), least)
    why = f"{known} principal components hold 80 % of the variance"
    return Suggestion("latent", value, why + ("; more stay unused" if value > known else ""))


def patch(config, facts, *, of_data):
    """Side of a transformer's patches."""
    (height, width, colours), tokens = facts.spec.shape, 64 if config.width <= 256 else 256
    most = max(height, width) if of_data else max(1, math.isqrt(config.width // colours))
    side = nearest_divisor((height, width), most, tokens)
    why = f"{height * width // side**2} tokens of {side**2 * colours} numbers; some {tokens} at any"
    why += " size of the images" + ("" if of_data else ", no more numbers than features")
    return Suggestion("patch", side, why, JIT)
