#include <limits>
#include <memory>

#include "cli/commands.h"
#include "cli/progress_line.h"
#include "ood/synthetic.h"

namespace ood::cli {

namespace {

struct SynthArguments {
  std::string preset, out;
  std::uint64_t seed = 0;
  SyntheticFileOptions file;
  bool compress = false;
};

void run(const SynthArguments& arguments) {
  require_output(arguments.out, "");
  ProgressLine line;
  SyntheticFileOptions options = arguments.file;
  options.gzip_level = arguments.compress ? 4 : 0;
  options.progress = [&](std::string_view split, double done) { line.show(split, done); };
  write_synthetic(arguments.out, SyntheticData(arguments.preset, arguments.seed), options);
}

}  // namespace

void add_synth(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "synth", "Write a made-up feature file, for runs at scale: no results about detectors");
  auto arguments = std::make_shared<SynthArguments>();
  command
      ->add_option("--preset", arguments->preset,
                   "Network to be like: imagenet-resnet50, cifar100-densenet")
      ->required();
  command->add_option("--rows,-n", arguments->file.rows, "Rows of /train")->required();
  command->add_option("--out,-o", arguments->out, "Feature file to write")->required();
  command->add_option("--test-rows", arguments->file.test_rows, "Rows of every other split")
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "Of all random numbers")
      ->check(CLI::Range(Index{0}, std::numeric_limits<Index>::max()))  // -1 would be 2^64 - 1
      ->capture_default_str();
  command->add_flag("--logits", arguments->file.logits,
                    "Store logits too; without, they are computed when rows are read");
  command->add_flag("--compress", arguments->compress, "gzip, which takes far longer to write");
  command->add_option("--threads,-j", arguments->file.exec.threads, "0 = all")
      ->capture_default_str();
  command->callback([arguments, &action] {
    action = [arguments] {
      run(*arguments);
      return kDone;
    };
  });
}

}  // namespace ood::cli
