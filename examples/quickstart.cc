#include <cstdio>

#include "ood/dataset.h"
#include "ood/detectors.h"
#include "ood/stream.h"

int main(int argc, char** argv) {
  const ood::Dataset file(argc > 1 ? argv[1] : "examples/data/digits.h5");
  ood::ConjNorm detector({.p = 2.5, .temperature = 0.08});
  detector.fit(*file.source("train"));
  ood::stream(*file.source("id_test"), {.features = true}, {}, [&](const ood::Batch& batch) {
    for (const float score : detector.score(batch)) std::printf("%.4f\n", score);
  });  // higher = more in-distribution
}
