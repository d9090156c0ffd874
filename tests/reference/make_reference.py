#!/usr/bin/env python3
"""Float64 reference values for the tests of libood.

Writes into the folder of this script

    small.h5, deficient.h5, perturbed.h5, copies.h5
                             synthetic feature files (float32, as the library reads them)
    scores.json              detector scores of those files
    drift.json               Kolmogorov-Smirnov and Welch tests, shares of rejects, by scipy
    metrics.json             AUROC, FPR at 95 % TPR and AUPR of score lists
    logistic_regression.json coefficients by scikit-learn

Every formula is written out in float64 from its definition, one row or one pair at a time, from
the float32 arrays read back from the files. It shares no code and no shortcut with the library.

    make_reference.py            write the files
    make_reference.py --check    recompute; exit 1 and say which value differs (arrays: at all,
                                 other numbers: by more than 1e-10 relative)

The modules beside it hold the formulas, by topic. Needs numpy, scipy, h5py, scikit-learn.

Score convention: higher = more in-distribution (ID). A test passes if, for every row,
|got - want| <= atol + rtol * |want|.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drift import make_drift
from feature_files import (
    COPIES,
    DEFICIENT,
    PERTURBED,
    SMALL,
    check_features,
    make_copies,
    make_deficient,
    make_perturbed,
    make_small,
    write_features,
)
from logistic_regression import make_logistic_regression
from metrics import make_metrics
from score_cases import make_scores
from tolerances import Json

HERE = Path(__file__).resolve().parent


def json_text(value: Json) -> str:
    """Compact, one case per line; floats with as many digits as it takes to read them back."""
    lines = [json.dumps(case, separators=(",", ":"), allow_nan=False) for case in value["cases"]]
    return '{"cases":[\n' + ",\n".join(lines) + "\n]}\n"


def differences(where: str, have: Any, want: Any) -> list[str]:
    """Places where two JSON values differ, numbers by more than 1e-10 relative."""
    if isinstance(want, dict) and isinstance(have, dict):
        if have.keys() != want.keys():
            return [f"{where}: keys {sorted(have)}, want {sorted(want)}"]
        return [d for key in want for d in differences(f"{where}: {key}", have[key], want[key])]
    if isinstance(want, list) and isinstance(have, list):
        if len(have) != len(want):
            return [f"{where}: {len(have)} entries, want {len(want)}"]
        return [d for i in range(len(want))
                for d in differences(f"{where}[{i}]", have[i], want[i])]
    numbers = [isinstance(x, (int, float)) and not isinstance(x, bool) for x in (have, want)]
    if all(numbers):
        same = abs(have - want) <= 1e-10 * max(abs(have), abs(want))
    else:
        same = type(have) is type(want) and have == want
    return [] if same else [f"{where}: {have!r}, want {want!r}"]


def check_json(path: Path, want: Json) -> list[str]:
    if not path.is_file():
        return [f"{path.name}: missing"]
    try:
        have = json.loads(path.read_text(encoding="utf-8"))
        have_cases = {case["name"]: case for case in have["cases"]}
    except (ValueError, KeyError, TypeError) as error:
        return [f"{path.name}: cannot be read: {error!r}"]
    if len(have_cases) != len(have["cases"]):
        return [f"{path.name}: two cases of one name"]
    return differences(path.name, have_cases, {case["name"]: case for case in want["cases"]})


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the reference values.")
    parser.add_argument("--check", action="store_true", help="recompute and compare; write nothing")
    check: bool = parser.parse_args().check

    feature_files = {SMALL: make_small(), DEFICIENT: make_deficient(),
                     PERTURBED: make_perturbed(), COPIES: make_copies()}
    errors: list[str] = []
    for name, datasets in feature_files.items():
        if check:
            errors += check_features(HERE / name, datasets)
        else:
            write_features(HERE / name, datasets)

    # Scores are those of the files as they lie there.
    if all((HERE / name).is_file() for name in feature_files):
        makers: dict[str, Callable[[], Json]] = {
            "scores.json": lambda: make_scores(HERE), "metrics.json": make_metrics,
            "drift.json": make_drift, "logistic_regression.json": make_logistic_regression}
        for name, make in makers.items():
            value = make()
            if check:
                errors += check_json(HERE / name, value)
            else:
                (HERE / name).write_text(json_text(value), encoding="utf-8")

    for name in (*feature_files, "scores.json", "metrics.json", "drift.json",
                 "logistic_regression.json"):
        mine = [error for error in errors if error.startswith(f"{name}: ")]
        for error in mine[:10]:
            print(error, file=sys.stderr)
        if len(mine) > 10:
            print(f"{name}: ... and {len(mine) - 10} more", file=sys.stderr)
    if check:
        print("reference values differ" if errors else "reference values agree")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
