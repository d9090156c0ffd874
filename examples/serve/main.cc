// A detector in a service: one model file, one detector that all threads share, a few rows at a time.
// Measures how long each of them waits for its answer.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ood/dataset.h"
#include "ood/model_file.h"
#include "ood/stream.h"

namespace {

using Clock = std::chrono::steady_clock;
using ood::Index;

constexpr Index kPoolRows = 4096;               // rows that requests are made of, again and again
constexpr std::size_t kMostRequests = 1 << 22;  // of a thread: as many latencies are kept

struct Options {
  std::string model, rows, split = "id_test";
  int threads = 1;
  Index batch = 1;
  double seconds = 3;
  bool decide = false;
};

/// The first rows of a split, copied into memory.
class Pool {
 public:
  Pool(const Options& options, const ood::Inputs& wanted) {
    const ood::Dataset file(options.rows);
    const auto source = file.source(options.split);
    ood::SourceInfo info = source->info();
    info.has = ood::available(info);  // logits are made of features and head where they lack
    buffer_.emplace(info, wanted, std::min(kPoolRows, info.rows));
    ood::stream(*source, wanted, {}, [&](const ood::Batch& batch) {
      const Index left = buffer_->capacity() - buffer_->rows();
      if (left > 0) buffer_->append(batch.slice(0, std::min(left, batch.rows())));
    });
  }

  /// Random rows of the widths of those that the model was fitted on: logits of either sign, features
  /// as a ReLU leaves them.
  Pool(const ood::Model& model, const ood::Inputs& wanted) {
    if (wanted.layers || wanted.copy_features || wanted.copy_logits)
      throw std::invalid_argument(std::string(model.detector->name()) +
                                  " reads layers or copies, expected --rows with a file of them");
    ood::SourceInfo info;
    info.rows = kPoolRows;
    info.dim = model.fitted_on.dim;
    info.classes = model.fitted_on.classes;
    info.has = wanted;
    buffer_.emplace(info, wanted, kPoolRows);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& x : buffer_->features.reshaped()) x = std::abs(normal(random));
    for (float& x : buffer_->logits.reshaped()) x = 3 * normal(random);
    buffer_->set_rows(kPoolRows);
  }

  /// Consecutive rows, so many at a time.
  std::vector<ood::Batch> requests(Index rows) const {
    const ood::Batch all = buffer_->view();
    if (all.rows() < rows)
      throw std::invalid_argument("there are " + std::to_string(all.rows()) +
                                  " rows, expected at least a batch, " + std::to_string(rows));
    std::vector<ood::Batch> parts;
    for (Index begin = 0; begin + rows <= all.rows(); begin += rows)
      parts.push_back(all.slice(begin, rows));
    return parts;
  }

 private:
  std::optional<ood::BatchBuffer> buffer_;
};

/// What one thread of a service does. All of its memory is there before the first request.
class Worker {
 public:
  Worker(const ood::Model& model, const std::vector<ood::Batch>& requests, const Options& options)
      : model_(model),
        requests_(requests),
        decide_(options.decide),
        scores_(static_cast<std::size_t>(options.batch)),
        p_values_(scores_.size()) {
    microseconds.reserve(kMostRequests);
  }

  void answer(const ood::Batch& rows) {
    model_.detector->score(rows, scores_, {.threads = 1});
    if (!decide_) return;
    model_.p_values(rows, scores_, p_values_);
    rejected += std::ranges::count_if(p_values_, [&](double p) { return !(p > model_.alpha); });
  }

  void serve(double seconds) {
    try {
      for (std::size_t i = 0; i < 50; ++i)  // the first ones find the thread's buffers not made yet
        answer(requests_[i % requests_.size()]);
      rejected = 0;
      const auto end = Clock::now() + std::chrono::duration<double>(seconds);
      for (std::size_t i = 0; microseconds.size() < kMostRequests; ++i) {
        const auto before = Clock::now();
        if (before >= end && i > 0) break;
        answer(requests_[i % requests_.size()]);
        const std::chrono::duration<float, std::micro> took = Clock::now() - before;
        microseconds.push_back(took.count());
      }
    } catch (...) {
      error = std::current_exception();
    }
  }

  std::vector<float> microseconds;  // of each request
  Index rejected = 0;
  std::exception_ptr error;

 private:
  const ood::Model& model_;
  const std::vector<ood::Batch>& requests_;
  bool decide_;
  std::vector<float> scores_;
  std::vector<double> p_values_;
};

/// The smallest latency that at least this share of requests keeps to.
float percentile(const std::vector<float>& sorted, double share) {
  const auto rank = std::ceil(share * static_cast<double>(sorted.size()));
  return sorted[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

void run(const Options& options) {
  const ood::Model model = ood::load_model(options.model);
  if (options.decide && !model.calibrated())
    throw std::invalid_argument(options.model + " has no calibration, expected one for --decide");
  const ood::Inputs wanted = options.decide ? model.needs() : model.detector->needs().score;
  const Pool pool = options.rows.empty() ? Pool(model, wanted) : Pool(options, wanted);
  const std::vector<ood::Batch> requests = pool.requests(options.batch);

  std::vector<Worker> workers;
  for (int t = 0; t < options.threads; ++t) workers.emplace_back(model, requests, options);
  {
    std::vector<std::jthread> threads;  // ends when all have
    for (Worker& worker : workers) threads.emplace_back([&] { worker.serve(options.seconds); });
  }

  std::vector<float> all;
  Index rejected = 0;
  double busy = 0;  // seconds, of all threads
  for (const Worker& worker : workers) {
    if (worker.error) std::rethrow_exception(worker.error);
    all.insert(all.end(), worker.microseconds.begin(), worker.microseconds.end());
    rejected += worker.rejected;
    for (const float us : worker.microseconds) busy += 1e-6 * static_cast<double>(us);
  }
  std::ranges::sort(all);
  const auto rows = static_cast<double>(all.size()) * static_cast<double>(options.batch);

  std::printf("%s of %s; threads: %d; rows in a batch: %td; batches: %zu\n",
              std::string(model.detector->name()).c_str(), options.model.c_str(), options.threads,
              options.batch, all.size());
  std::printf("%-14s %10s %10s %10s %10s %10s\n", "microseconds", "p50", "p90", "p99", "p99.9",
              "max");
  for (const bool per_row : {false, true}) {
    const auto divisor = per_row ? static_cast<double>(options.batch) : 1.0;
    std::printf("%-14s", per_row ? "for each row" : "for a batch");
    for (const double share : {0.5, 0.9, 0.99, 0.999, 1.0})
      std::printf(" %10.2f", static_cast<double>(percentile(all, share)) / divisor);
    std::printf("\n");
  }
  std::printf("rows per second: %.0f\n", rows / (busy / options.threads));
  if (options.decide)
    std::printf("rejected at alpha = %g: %.2f %%\n", model.alpha,
                100 * static_cast<double>(rejected) / rows);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Serves a fitted detector from several threads and prints latencies", "serve");
  app.add_option("model", options.model, "a model file, as `ood fit --out` writes it")->required();
  app.add_option("--threads", options.threads, "that share the detector")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "rows in each request")
      ->check(CLI::Range(Index{1}, kPoolRows))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "to serve")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--rows", options.rows, "a feature file to take rows from; without, random ones");
  app.add_option("--split", options.split, "of that file")->capture_default_str();
  app.add_flag("--decide", options.decide, "p-values and decisions too, within what is timed");
  try {
    app.parse(argc, argv);
    run(options);
    return 0;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const std::exception& error) {
    std::string line = error.what();
    std::ranges::replace(line, '\n', ' ');
    std::fprintf(stderr, "serve: %s\n", line.c_str());
    return 2;
  }
}
