#include <ood/metrics.h>
#include <ood/version.h>

#include <vector>

int main() {
  const std::vector<double> id{2, 1}, ood{1, 0};
  // Pairs 2 > 1, 2 > 0, 1 = 1, 1 > 0: (1 + 1 + 1/2 + 1) / 4
  const bool right = ood::auroc(id, ood) == 0.875 && OOD_VERSION_MAJOR >= 0;
  return right ? 0 : 1;
}
