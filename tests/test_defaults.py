"""The numeric defaults of the rooms that follow no paper; losses, diffusion and edit have tests of
their own, which name it."""

import math

import pytest

from genjax import cli, data, evaluate, report, run, train
from tests.defaults import defaults, numeric_defaults

# Where a count starts, one process, one step at a time: the same everywhere.
NEUTRAL = {"seed": 0, "first": 0, "process_index": 0, "process_count": 1, "scan_steps": 1}
NEUTRAL |= {"turns": 1, "microbatches": 1, "step": 0}
OTHERS = {
    train: {
        ("averages.half_life", "batch"): 1,
        ("averages.half_life", "ramp_up"): 0.05,
        ("checkpoint.Checkpoints", "keep"): 2,
        ("digests.damage", "most_bytes"): math.inf,
        ("keys.train_key", "rollbacks"): 0,
        ("layout.FullySharded", "smallest"): 16_384,
        ("metrics.MetricsWriter", "last_row"): 0,
        ("optimizers.Optimizer", "momentum"): 0.0,
        ("rates.warm_up", "end"): 0.0,
        ("rates.inverse_square_root", "warm_up"): 0,
    },
    run: {
        ("altering.vary", "n"): 4,
        ("audited.of_run", "n"): 1000,
        ("edit_settings.Edit", "n"): 4,
        ("edit_settings.Edit", "blur"): 1.5,
        ("edit_settings.Edit", "quality"): 10,
        ("family.Measure", "chunk"): 100,
        ("family.Measure", "n"): 1000,
        ("listing.find", "depth"): 4,
        ("listing.listed", "most_read"): 32 * 2**30,
        ("page_curves.of_profiles", "most"): 4,
        ("periodic_eval.PeriodicEval", "epoch"): 1,
        ("restored.RestoredRun.sample", "n"): 64,
        ("restored.RestoredRun.trajectories", "n"): 8,
        ("restored.RestoredRun.interpolate", "pairs"): 8,
        ("restored.RestoredRun.interpolate", "steps"): 10,
        ("restoring.restore", "n"): 4,
        ("run_page.page", "most_read"): 32 * 2**30,
        ("sampling.in_chunks", "size"): 64,
        ("scoring.Scorer", "most"): 50_000,
        ("settings.Settings", "log"): 50,
        ("settings.Settings", "samples"): 64,
        ("settings.Settings", "score_images"): 500,
        ("suggestions.rounded", "digits"): 2,
    },
    data: {
        ("dataset.folder", "size"): 64,
        ("files.read_image", "frame"): 0,
        ("opening.open_images", "memory"): 2 * 2**30,
        ("settings.DataSettings", "rules"): 2,
    },
    evaluate: {
        ("bias.shares", "level"): 0.95,
        ("bias.bias", "level"): 0.95,
        ("classification.calibration_error", "bins"): 15,
        ("collapse.collapse", "looks"): 1,
        ("copies.matches", "candidates"): 16,
        ("dequantization.dequantized_bits_per_dim", "low"): -1.0,
        ("dequantization.dequantized_bits_per_dim", "high"): 1.0,
        ("dequantization.dequantized_bits_per_dim", "levels"): 256,
        ("estimate.Estimate", "share_of"): 0,
        ("estimate.Estimate.interval", "level"): 0.95,
        ("estimate.fold_bounds", "folds"): 20,
        ("estimate.blocks", "size"): 4096,
        ("finding.Finding", "error_rate"): 0.01,
        ("finding.Finding", "n"): 0,
        ("finding.Finding", "n_reference"): 0,
        ("judgement.binomial_interval", "level"): 0.95,
        ("kernel_distance.Polynomial", "degree"): 3,  # arXiv:1801.01401, section 4
        ("kernel_distance.Polynomial", "constant"): 1.0,
        ("kernel_distance.median_distance", "most"): 1000,
        ("likelihood_scores.vae_scores", "chunk"): 50,
        ("likelihood_scores.hierarchy_scores", "chunk"): 50,
        ("likelihood_scores.diffusion_scores", "terms"): 50,
        ("nearest.blocks", "size"): 1024,
        ("nearest.nearest", "k"): 1,
        ("neighbours.neighbour_scores", "k"): 5,  # arXiv:2002.09797, section 4
        ("sliced_wasserstein.sliced_wasserstein", "projections"): 256,
        ("sliced_wasserstein.sliced_wasserstein_score", "projections"): 256,
    },
    cli: {
        ("options.Sample", "n"): 64,
        ("options.Reconstruct", "n"): 32,
        ("options.Interpolate", "pairs"): 8,
        ("options.Interpolate", "steps"): 10,
        ("options.Edit", "n"): 4,
        ("options.Edit", "blur"): 1.5,
        ("options.Edit", "quality"): 10,
        ("options.Audit", "n"): 1000,
    },
    report: {
        ("grids.grid", "gap"): 2,
        ("grids.pairs", "columns"): 8,
        ("grids.frames", "most"): 60,
        ("grids.strips", "most"): 10,
        ("grids.save_animation", "seconds"): 4.0,
    },
}
SWITCHED_ON = {
    ("evaluate", "finding.Finding", "decided"),
    ("run", "editable.Denoiser", "pixels"),
    ("run", "export.write", "makes_images"),
    ("run", "listing.Checkpoint", "checked"),
    ("run", "observing.observe", "known"),
    ("train", "metrics.MetricsWriter.write", "ended"),
    ("train", "waiting.announced", "logged"),
}


def room_name(room):
    return room.__name__.rpartition(".")[2]


@pytest.mark.parametrize("room", OTHERS, ids=room_name)
def test_numeric_defaults_are_these(room):
    found = numeric_defaults(room)
    neutral = {where: NEUTRAL[where[1]] for where in found if where[1] in NEUTRAL}
    assert found == OTHERS[room] | neutral


def test_a_switch_is_off_but_for_these():
    on = {
        (room_name(room), *where)
        for room in OTHERS
        for where, value in defaults(room).items()
        if value is True
    }
    assert on == SWITCHED_ON
