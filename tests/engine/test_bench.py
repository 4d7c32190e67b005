"""The bench measures what the contract asks, beside C loops that do the same; here it only has to run to its end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engine_speed import TARGETS, table
from hsvm_engine import cli
from hsvm_engine.commands import bench

ROOT = Path(__file__).resolve().parent.parent.parent


def test_it_says_plainly_that_an_installed_package_has_no_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    assert cli.main(["bench", "--json"]) == 2
    assert "benchmarks/ beside the package" in capsys.readouterr().err


def test_every_figure_comes_with_its_spread_and_both_sides_agree() -> None:
    command = [sys.executable, "-m", "hsvm_engine", "bench", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["bench"] == "hsvm"
    assert report["quick"] is True
    for name in (*TARGETS, "port_call_us", "dirty_small_host_us"):
        low, high = report[f"{name}_spread"]
        assert 0 < low <= report[name] <= high, name
    assert set(report["m_refs_per_s"]) == {"l1", "l2", "program", "random", "zipf"}
    assert {"cores", "python", "compiler", "seconds"} <= set(report)
    assert "map_ratio" in done.stderr  # the table for people


def test_the_table_says_what_is_reached_and_what_is_missed() -> None:
    report = dict.fromkeys(TARGETS, 1.0) | {f"{name}_spread": [1.0, 1.0] for name in TARGETS} | {"map_ratio": 0.49}
    rows = {line.split()[0]: line for line in table(report).splitlines()}
    assert "missed" in rows["map_ratio"]
    assert "reached" in rows["unmap_ratio"]
    assert "missed" in rows["open_s"]
