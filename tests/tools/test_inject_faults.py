"""The short version of `python -m tools.inject_faults`: one run for each kind of fault."""

from tools.inject_faults import Options, harm


def test_a_harmed_run_loses_no_saved_step_and_all_damage_is_detected(tmp_path):
    options = Options(kills=2, damages=8, terminations=1, disks=1, peers=0, families=("vae",))
    rows = harm(options, tmp_path, shown=False)
    assert [row.harm for row in rows] == ["kill -9", "damaged file", "SIGTERM", "disk full"]
    for row in rows:
        assert row.good, row
        # A disk of its own takes a mount, which not every machine allows.
        assert row.tried or "no mount here" in row.note, row
