#include <ood/dataset.h>
#include <ood/detectors.h>
#include <ood/metrics.h>
#include <ood/version.h>

#include <stdexcept>
#include <vector>

int main() {
  const std::vector<double> id{2, 1}, ood{1, 0};
  // Pairs 2 > 1, 2 > 0, 1 = 1, 1 > 0: (1 + 1 + 1/2 + 1) / 4
  bool right = ood::auroc(id, ood) == 0.875 && OOD_VERSION_MAJOR >= 0;

  // HDF5, the products and the threads are linked too
  try {
    ood::Dataset("absent.h5");
    right = false;
  } catch (const std::runtime_error&) {
  }
  ood::Matrix bank(3, 2);
  bank << 0, 0, 3, 4, 6, 8;
  ood::Batch rows;
  rows.features = bank;
  ood::MemorySource source(rows);
  ood::Knn knn({.k = 2, .normalize = false});
  knn.fit(source);
  right = right && knn.score(rows) == std::vector<float>{-5, -5, -5};
  return right ? 0 : 1;
}
