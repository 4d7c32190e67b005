"""The capacity model and the simulation beside it agree: what is full first, all shares, and the rate that is left."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scaling_model as scaling
from webapp.runs import engine, services

ROOT = Path(__file__).resolve().parent.parent
COSTS = scaling.Costs(
    slice_worker=20.0, slice_cold=10.0, slice_vm=1.0, slice_keeper=1.0, slice_database=4.0, slice_redis=0.3,
    frame_web=0.2, checkpoint_kib=60.0, worker_mib=260.0, web_mib=110.0, socket_kib=150.0,
)  # fmt: skip
SIZES = [
    scaling.Size(hosts=100, vms=200, viewers=10, slower=2.0, worker_processes=12, web_processes=2),
    scaling.Size(hosts=400, vms=4_000, viewers=10, slower=4.0, worker_processes=10, web_processes=2),  # workers too few
    scaling.Size(hosts=1_000, vms=2_000, viewers=10, slower=2.0, worker_processes=200, web_processes=2),  # the keeper
]


@pytest.mark.parametrize("size", SIZES)
def test_model_and_simulation_name_the_same_bottleneck_and_the_same_shares(size: scaling.Size) -> None:
    told, seen = scaling.verdict(size, COSTS), scaling.simulated(size, COSTS, seconds=20.0)
    assert told["first_bottleneck"] == seen["fullest"]
    fullest = told["stations"][seen["fullest"]]["share"]
    if fullest <= 1:  # nobody waits for long, and everything is done
        assert seen["slices_a_second"] == pytest.approx(size.slices, rel=0.1)
        for name, share in seen["shares"].items():
            assert share == pytest.approx(told["stations"][name]["share"], abs=0.1), name
    else:  # the full station decides how much is left for the others
        assert seen["slices_a_second"] == pytest.approx(size.slices / fullest, rel=0.15)
        assert seen["shares"][seen["fullest"]] > 0.95


def test_a_cheaper_bottleneck_moves_the_limit_to_the_next(size: scaling.Size = SIZES[2]) -> None:
    before = scaling.verdict(size, COSTS)
    after = scaling.verdict(size, replace(COSTS, slice_keeper=0.01))
    assert before["first_bottleneck"] == "keeper" and after["first_bottleneck"] != "keeper"
    assert after["hosts_at_most"] > before["hosts_at_most"]


def test_the_models_constants_are_the_products() -> None:
    assert scaling.SLICES_A_SECOND == engine.SLICES_A_SECOND and scaling.HOT == engine.HOT_PLAYERS
    assert scaling.KEPT_MIB << 20 == services.CHECKPOINT_BYTES


def test_the_largest_site_is_answered_in_seconds_and_what_is_no_bench_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scaling_model"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert told["model"]["size"]["hosts"] == 5_000 and told["model"]["size"]["vms"] == 100_000
    assert told["model"]["size"]["viewers"] == 10_000 and told["model"]["first_bottleneck"]
    (tmp_path / "none.json").write_text("{}")
    wrong = subprocess.run([*command, "--costs", str(tmp_path / "none.json")], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and "not what make bench-scaling prints" in wrong.stderr
