/// Every metric by its name in files, in one order.
#pragma once

#include "ood/metrics.h"

namespace ood {

struct NamedMetric {
  const char* name;
  double Metrics::*member;
};
inline constexpr NamedMetric kMetrics[] = {
    {"auroc", &Metrics::auroc},
    {"fpr95", &Metrics::fpr95},
    {"fpr95_ood", &Metrics::fpr95_ood},
    {"aupr_in", &Metrics::aupr_in},
    {"aupr_out", &Metrics::aupr_out},
    {"aupr_in_trapezoid", &Metrics::aupr_in_trapezoid},
    {"aupr_out_trapezoid", &Metrics::aupr_out_trapezoid},
};

}  // namespace ood
