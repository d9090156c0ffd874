/// The subcommands of `ood`. Each adds itself to the parser and does its work when it was chosen.
/// Data goes to stdout, words to stderr; bad input is an exception, which run_command() turns into one
/// line.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "ood/exec.h"
#include "ood/report.h"

namespace ood::cli {

/// The whole command: what main() and the Python package's `ood` call. Returns the exit status.
int run_command(int argc, char** argv);

/// What a command ends with. A gate that does not hold is no error: everything was done.
enum Status : int { kDone = 0, kFailed = 1, kBadInput = 2 };

/// Work to be done after the whole command line was understood.
using Action = std::function<Status()>;

void add_eval(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_fit(CLI::App& app, Action& action);
void add_score(CLI::App& app, Action& action);
void add_monitor(CLI::App& app, Action& action);
void add_gate(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_synth(CLI::App& app, Action& action);
void add_list(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);

/// Writes to stdout, all or an exception.
void print(const std::string& text);

/// Adds --device; `device` is a Device or a std::optional of one.
template <class T>
void add_device_argument(CLI::App& command, T& device) {
  command
      .add_option_function<std::string>(
          "--device", [&device](const std::string& text) { device = Device::parse(text); },
          "What scores rows: cpu, cuda or cuda:<index>, see `ood info`; fits run on the processor")
      ->default_str("cpu");
}

/// A line on stderr for each warning of a fit or of the setting that a search chose.
void print_warnings(const Report& report);

/// Throws if `out`, where a result of `flag` will go, is one of the inputs or lies in no folder; "" is
/// stdout, or no output.
void require_output(const std::string& out, const std::string& input, const char* flag = "--out");

/// Writes to a file, all or an exception; the file is not left half written.
void write_file(const std::string& path, const std::string& text);

}  // namespace ood::cli
