"""What collectives carry, of a program's text and of compiled steps."""

import re

import pytest

from benchmarks import scaling

PROGRAM = """\
ENTRY %main (a: f32[4,8], b: bf16[]) -> f32[4,8] {
  %all-reduce.1 = (f32[4,8]{1,0}, bf16[]) all-reduce(%a, %b), channel_id=1, to_apply=%sum
  %get-tuple-element = f32[4,8]{1,0} get-tuple-element(%all-reduce.1), index=0
  ROOT %all-gather.3 = f32[16,8]{1,0} all-gather-start(%get-tuple-element), dimensions={0}
}
"""


def test_the_results_of_collectives_are_read_from_a_program():
    assert scaling.collectives(PROGRAM) == {"all-reduce": [4 * 8 * 4 + 2], "all-gather": [512]}


def test_a_ring_sends_what_its_formula_says():
    # Each of 4 devices sends 3 quarters of an array to gather it, and twice that to sum it.
    assert scaling.traffic({"all-gather": [100, 60]}, 4) == 120
    assert scaling.traffic({"all-reduce": [160]}, 4) == 240
    assert scaling.traffic({"reduce-scatter": [40]}, 4) == 120  # of a result of a quarter
    assert scaling.traffic({"collective-permute": [7], "all-to-all": [100]}, 4) == 82
    assert scaling.efficiency(3.0, 1.0) == (0.75, 1.0)
    assert scaling.efficiency(1.0, 4.0) == (0.2, 0.25)


def test_a_row_tells_counts_megabytes_and_efficiency():
    line = scaling.row(2, "copied", {"all-reduce": [8_000_000] * 2}, 0.016, 1e9)
    assert line == "| 2 | copied | 2 all-reduce | 16.0 | 16.0 | 50.0% to 100.0% |"
    assert scaling.row(1, "copied", {}, 1.0, 1.0).split(" | ")[2:] == [
        "none",
        "0.0",
        "0.0",
        "100.0% to 100.0% |",
    ]


@pytest.mark.slow
def test_copies_are_summed_and_shards_gathered():
    copied = scaling.in_a_process("vae_fashion", "copied", 2, 1)
    assert list(copied) == ["all-reduce"]
    # The gradients of the parameters, and some metrics.
    parameters = 3072 * 400 + 400 + 400 * 40 + 40 + 20 * 400 + 400 + 400 * 3072 + 3072
    assert 4 * parameters <= sum(copied["all-reduce"]) < 4 * parameters + 100
    sharded = scaling.in_a_process("vae_fashion", "sharded", 2, 1)
    assert "all-gather" in sharded
    with pytest.raises(SystemExit, match=re.escape("copied on 2 devices: ")):
        scaling.in_a_process("nosuch", "copied", 2, 1)
