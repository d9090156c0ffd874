"""Metrics of score lists: the cases of metrics.json.

  auroc            area under the ROC curve, ID positive, score = confidence; a tie counts half
  fpr95            share of OOD accepted at the first (highest) threshold at which at least 95 %
                   of ID is accepted
  fpr95_ood        OOD positive, score -s: share of ID rejected at the first threshold at which
                   at least 95 % of OOD is caught
  aupr_in          average precision, sum_n (R_n - R_{n-1}) P_n, ID positive
  aupr_out         the same with OOD positive and score -s
  aupr_*_trapezoid trapezoidal area of the same points (R_n, P_n), and (0, 1) as the first

A threshold takes all rows of equal score together. "At least 95 % of n" is an exact comparison of
integers, 100 count >= 95 n, without a tolerance: 19 of 20 counts as reached. scikit-learn divides
count / n and compares with 0.95 in float64, which is the same: the quotient is correctly rounded,
so that 19/20, 38/40, ... give the very float64 number written 0.95.

JSON has no infinities: they are written as the strings "inf" and "-inf".
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from feature_files import Array
from tolerances import Json


def fpr_at_95(positive: Array, negative: Array) -> float:
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [len(positive), len(negative)]),
                            np.concatenate([positive, negative]), drop_intermediate=False)
    value = float(fpr[np.flatnonzero(tpr >= 0.95)[0]])
    # The same by counting.
    for threshold in np.unique(positive)[::-1]:
        if 100 * int(np.sum(positive >= threshold)) >= 95 * len(positive):
            assert value == int(np.sum(negative >= threshold)) / len(negative)
            break
    return value


def metrics_of(id_scores: Array, ood_scores: Array) -> dict[str, float]:
    n, m = len(id_scores), len(ood_scores)
    is_id = np.repeat([1, 0], [n, m])
    scores = np.concatenate([id_scores, ood_scores])
    precision_in, recall_in, _ = precision_recall_curve(is_id, scores)
    precision_out, recall_out, _ = precision_recall_curve(1 - is_id, -scores)
    return {
        "auroc": float(roc_auc_score(is_id, scores)),
        "fpr95": fpr_at_95(id_scores, ood_scores),
        "fpr95_ood": fpr_at_95(-ood_scores, -id_scores),
        "aupr_in": float(average_precision_score(is_id, scores)),
        "aupr_out": float(average_precision_score(1 - is_id, -scores)),
        "aupr_in_trapezoid": float(auc(recall_in, precision_in)),
        "aupr_out_trapezoid": float(auc(recall_out, precision_out)),
    }


def metric_case(name: str, id_scores: Array, ood_scores: Array) -> Json:
    # scikit-learn may refuse infinities, and the metrics depend on the order only: ranks.
    _, order = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)
    ranks = order.astype(np.float64)
    values = metrics_of(ranks[:len(id_scores)], ranks[len(id_scores):])
    if np.all(np.isfinite(id_scores)) and np.all(np.isfinite(ood_scores)):
        assert values == metrics_of(id_scores, ood_scores), name

    def as_json(scores: Array) -> list[Any]:
        return [x if math.isfinite(x) else str(x) for x in scores.tolist()]

    return {"name": name, "id": as_json(id_scores), "ood": as_json(ood_scores), **values}


def hand_worked() -> list[tuple[str, list[float], list[float], dict[str, Fraction]]]:
    """Cases worked out by hand."""
    F = Fraction
    return [
        # ID 2 1, OOD 1 0.
        #   auroc      pairs 2>1, 2>0, 1=1, 1>0: (1 + 1 + 1/2 + 1) / 4 = 7/8
        #   fpr95      2 of 2 ID needed: s >= 1 takes OOD {1}: 1/2
        #   fpr95_ood  2 of 2 OOD needed: s <= 1 takes ID {1}: 1/2
        #   in         s >= 2: 1 ID 0 OOD, R 1/2 P 1;  s >= 1: 2 ID 1 OOD, R 1 P 2/3
        #              1/2 * 1 + 1/2 * 2/3 = 5/6
        #   trapezoid  1/2 * (1 + 1)/2 + 1/2 * (1 + 2/3)/2 = 1/2 + 5/12 = 11/12
        #   out        the mirror image s -> 2 - s swaps ID and OOD: the same
        ("hand: one tie across", [2, 1], [1, 0],
         {"auroc": F(7, 8), "fpr95": F(1, 2), "fpr95_ood": F(1, 2),
          "aupr_in": F(5, 6), "aupr_in_trapezoid": F(11, 12),
          "aupr_out": F(5, 6), "aupr_out_trapezoid": F(11, 12)}),
        # ID 3 3 2, OOD 3 1.
        #   auroc      3=3 twice, 3>1 twice, 2<3, 2>1: (1/2 + 1/2 + 1 + 1 + 0 + 1) / 6 = 2/3
        #   fpr95      3 of 3 ID needed: s >= 2 takes OOD {3}: 1/2
        #   fpr95_ood  2 of 2 OOD needed: s <= 3 takes all ID: 1
        #   in         s >= 3: 2 ID 1 OOD, R 2/3 P 2/3;  s >= 2: 3 ID 1 OOD, R 1 P 3/4
        #              2/3 * 2/3 + 1/3 * 3/4 = 4/9 + 1/4 = 25/36
        #   trapezoid  2/3 * (1 + 2/3)/2 + 1/3 * (2/3 + 3/4)/2 = 5/9 + 17/72 = 19/24
        #   out        s <= 1: 1 OOD 0 ID, R 1/2 P 1;  s <= 2: 1 OOD 1 ID, R 1/2 P 1/2;
        #              s <= 3: 2 OOD 3 ID, R 1 P 2/5
        #              1/2 * 1 + 0 * 1/2 + 1/2 * 2/5 = 7/10
        #   trapezoid  1/2 * (1 + 1)/2 + 0 + 1/2 * (1/2 + 2/5)/2 = 1/2 + 9/40 = 29/40
        ("hand: ties within and across", [3, 3, 2], [3, 1],
         {"auroc": F(2, 3), "fpr95": F(1, 2), "fpr95_ood": F(1),
          "aupr_in": F(25, 36), "aupr_in_trapezoid": F(19, 24),
          "aupr_out": F(7, 10), "aupr_out_trapezoid": F(29, 40)}),
        # ID 19 x 5, 1 x 0 (n = 20); OOD 2 x 5, 28 x 1, 10 x 0 (n = 40).
        #   auroc      each ID 5: 2 ties, 38 wins = 39;  the ID 0: 10 ties = 5
        #              (19 * 39 + 5) / 800 = 746/800 = 373/400
        #   fpr95      19/20 is exactly 95 %, reached at s >= 5, which takes 2 of 40 OOD: 1/20
        #              (with a strict comparison s >= 0 would be needed: 1)
        #   fpr95_ood  38/40 is exactly 95 %, reached at s <= 1, which takes 1 of 20 ID: 1/20
        #   in         s >= 5: 19 ID 2 OOD, R 19/20 P 19/21;  s >= 1: 19 ID 30 OOD, R 19/20 P 19/49;
        #              s >= 0: 20 ID 40 OOD, R 1 P 1/3
        #              19/20 * 19/21 + 0 + 1/20 * 1/3 = 361/420 + 7/420 = 92/105
        #   trapezoid  19/20 * (1 + 19/21)/2 + 0 + 1/20 * (19/49 + 1/3)/2
        #              = 19/21 + 53/2940 = 2713/2940
        #   out        s <= 0: 10 OOD 1 ID, R 1/4 P 10/11;  s <= 1: 38 OOD 1 ID, R 19/20 P 38/39;
        #              s <= 5: 40 OOD 20 ID, R 1 P 2/3
        #              1/4 * 10/11 + 7/10 * 38/39 + 1/20 * 2/3 = 5/22 + 133/195 + 1/30 = 674/715
        #   trapezoid  1/4 * (1 + 10/11)/2 + 7/10 * (10/11 + 38/39)/2 + 1/20 * (38/39 + 2/3)/2
        #              = 21/88 + 1414/2145 + 8/195 = 16111/17160
        ("hand: exactly 95 % with ties", [5] * 19 + [0], [5] * 2 + [1] * 28 + [0] * 10,
         {"auroc": F(373, 400), "fpr95": F(1, 20), "fpr95_ood": F(1, 20),
          "aupr_in": F(92, 105), "aupr_in_trapezoid": F(2713, 2940),
          "aupr_out": F(674, 715), "aupr_out_trapezoid": F(16111, 17160)}),
    ]


def make_metrics() -> Json:
    rng = np.random.default_rng(3003)
    inf = math.inf
    # Both shares exactly 95 %, without ties: 19 of 20 ID are >= 50, and so are 3 of 40 OOD; 38 of
    # 40 OOD are <= 52.5, and so are 4 of 20 ID. If more than 95 % were asked for, the values would
    # be 1 (s >= -100) and 12/20 (s <= 60.5) instead.
    exact_id = np.array([-100.0, *np.arange(50.0, 69.0)])
    exact_ood = np.array([*np.arange(-80.0, -43.0), 52.5, 60.5, 70.5])
    f32 = np.finfo(np.float32)
    tiny32 = float(f32.smallest_subnormal)
    tiny64 = float(np.finfo(np.float64).smallest_subnormal)

    lists: list[tuple[str, Any, Any]] = [
        ("normals", rng.normal(0.7, 1.0, 97), rng.normal(0.0, 1.3, 203)),
        ("heavily tied integers", rng.choice(5, 300, p=[0.05, 0.1, 0.2, 0.3, 0.35]),
         rng.choice(5, 150, p=[0.35, 0.25, 0.2, 0.15, 0.05])),
        ("all equal", [0.25] * 13, [0.25] * 29),
        ("perfectly separated", rng.uniform(1.0, 2.0, 31), rng.uniform(-2.0, -1.0, 17)),
        ("perfectly reversed", rng.uniform(-2.0, -1.0, 31), rng.uniform(1.0, 2.0, 17)),
        ("one each", [1.0], [0.0]),
        ("one each reversed", [0.0], [1.0]),
        ("one each tied", [1.0], [1.0]),
        # Every number here is a float32 number, too.
        ("huge and denormal float32",
         [float(np.float32(x)) for x in (1e30, 1e30, 2e30, -1e30, 3e38, 1.0, 0.0, 1.5e-39)]
         + [tiny32, 2 * tiny32, float(f32.tiny), -tiny32],
         [float(np.float32(x)) for x in (-1e30, -2e30, 1e30, -3e38, 0.0, -0.0, 1e-39)]
         + [tiny32, -tiny32, -2 * tiny32, -float(f32.tiny)]),
        # Only for scores held in float64.
        ("huge and denormal float64", [1e300, 2e-310, 2 * tiny64, tiny64, 0.0, -1.7e308],
         [-1e300, 1e-310, tiny64, -tiny64, 0.0, 1.7e308, -1.7e308]),
        ("infinite", [inf, inf, 3.0, 2.0, 2.0, 1.0, 0.5, -inf, 1e308],
         [inf, 2.0, 1.0, 0.0, -1.0, -inf, -inf, -inf, -1e308]),
        ("large and rounded", rng.normal(1.2, 1.0, 5000).round(2),
         rng.normal(0.0, 1.0, 3000).round(2)),
        ("exactly 95 %", rng.permutation(exact_id), rng.permutation(exact_ood)),
    ]
    cases = [metric_case(name, np.array(i, np.float64), np.array(o, np.float64))
             for name, i, o in lists]
    assert cases[-1]["fpr95"] == 3 / 40 and cases[-1]["fpr95_ood"] == 4 / 20

    for name, id_list, ood_list, want in hand_worked():
        case = metric_case(name, np.array(id_list, np.float64), np.array(ood_list, np.float64))
        for key, value in want.items():
            assert abs(case[key] - float(value)) < 1e-14, (name, key, case[key], value)
            case[key] = float(value)
        cases.append(case)
    return {"cases": cases}
