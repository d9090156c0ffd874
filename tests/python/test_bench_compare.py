"""The page that scripts/bench-compare writes of what ood_bench and bench/peers found."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("bench_compare", str(SOURCE / "scripts/bench-compare"))
    spec = spec_from_loader("bench_compare", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_tables_of_a_run(script: ModuleType, tmp_path: Path) -> None:
    bench = Path(os.environ["OOD_COMMAND"]).with_name("bench") / "ood_bench"
    if not bench.exists():
        pytest.skip("ood_bench is not built")
    out = tmp_path / "out.json"
    subprocess.run([bench, "--benchmark_filter=stream_read|one_row_energy|all_metrics$", "--benchmark_min_time=0.01",
                    f"--benchmark_out={out}", "--benchmark_out_format=json"], check=True, capture_output=True)
    found = json.loads(out.read_text())
    page = script.own_tables(found["benchmarks"])
    assert "| stream_read | " in page and " GB/s |" in page
    assert "\n| energy | " in page  # percentiles
    assert "\n| all_metrics | " in page
    text = script.machine(found["context"], {"numpy": "1.2"}, 2)
    assert "2 threads used" in text and "numpy 1.2" in text


def test_goals_are_said_to_be_met_or_missed(script: ModuleType) -> None:
    def row(name: str, ratio: str, value: float, goal: float | None) -> str:
        found = {"name": f"{name}/manual_time", "work_ms": 12.0, "other_ms": 10.0, ratio: value, "real_time": 12.0,
                 "time_unit": "ms"} | ({} if goal is None else {"goal": goal})
        tables = script.own_tables([found])
        return next(line for line in tables.splitlines() if line.startswith(f"| {name}"))

    assert row("energy_vs_read", "score_over_read", 1.2, 1.25).endswith("| 12 | 10 | 1.2 | ≤ 1.25 met |")
    assert "≤ 1.25 **missed**" in row("energy_vs_read", "score_over_read", 1.3, 1.25)
    assert "≥ 1.8 met" in row("threads<Energy>", "speedup", 1.9, 1.8)
    assert "≥ 1.8 **missed**" in row("threads<Energy>", "speedup", 1.7, 1.8)
    assert "≥ 0.9 met" in row("BM_read", "times_H5Dread", 1.1, 0.9)
    assert row("gen_vs_read", "score_over_read", 4.2, None).endswith("| 4.2 |  |")


def test_peers(script: ModuleType) -> None:
    one = {"work": "KNN", "peer": "faiss", "goal": 6.0, "ours": 0.1, "theirs": 0.5, "ratio": 5.0,
           "ratios": [4.0, 5.0, 6.5], "rows": None, "scale": 1.0, "missing": ""}
    few = one | {"peer": "loops", "goal": None, "rows": 200, "scale": 25.0}
    absent = one | {"peer": "PyTorch", "missing": "No module named 'torch'"}
    lines = script.peers_table([one, few, absent]).splitlines()[-3:]
    assert lines == ["| KNN | faiss | 100 | 500 | 5 (4–6.5) | ≥ 6 **missed** |",
                     "| KNN | loops (200 rows, times 25) | 100 | 500 | 5 (4–6.5) |  |",
                     "| KNN | PyTorch |  |  | No module named 'torch' |  |"]
