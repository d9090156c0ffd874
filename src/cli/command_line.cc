#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "cli/commands.h"
#include "errors.h"
#include "ood/version.h"
#include "partial_file.h"

namespace ood::cli {

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw std::runtime_error("cannot write to standard output");
}

void print_warnings(const Report& report) {
  const auto warn = [](const std::string& detector, const std::vector<std::string>& warnings) {
    for (const std::string& warning : warnings)
      fmt::print(stderr, "warning: {}: {}\n", detector, warning);
  };
  for (const SearchResult& search : report.searches)
    warn(search.detector + " (search)", search.best.warnings);
  for (const ReportFit& fit : report.fits) warn(fit.detector, fit.found.warnings);
}

void require_output(const std::string& out, const std::string& input, const char* flag) {
  if (out.empty()) return;
  std::error_code none;
  if (std::filesystem::equivalent(out, input, none))
    throw_invalid("{} has {}, which is an input, expected another file", flag, out);
  const auto folder = std::filesystem::path(out).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder, none))  // before any work
    throw std::runtime_error(fmt::format("{}: cannot be written", out));
}

void write_file(const std::string& path, const std::string& text) {
  namespace fs = std::filesystem;
  const auto write = [&](const std::string& to) {
    std::ofstream file(to, std::ios::binary);
    file << text;
    file.close();
    return static_cast<bool>(file);
  };
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) {  // a pipe, a device: write there
    if (fs::is_directory(status) || !write(path))
      throw std::runtime_error(fmt::format("{}: cannot be written", path));
    return;
  }
  PartialFile whole(path);
  if (!write(whole.partial())) throw std::runtime_error(fmt::format("{}: cannot be written", path));
  whole.publish();
}

}  // namespace ood::cli

namespace {

/// An error is one line, whatever a library made of it.
std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

/// "ood eval", or "ood" where no subcommand was understood.
std::string command_name(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? "ood" : "ood " + chosen.front()->get_name();
}

}  // namespace

int ood::cli::run_command(int argc, char** argv) {
  CLI::App app("Post-hoc out-of-distribution detection from stored features", "ood");
  app.set_version_flag("--version", OOD_VERSION);
  app.require_subcommand(1);
  ood::cli::Action action;
  ood::cli::add_eval(app, action);
  ood::cli::add_report(app, action);
  ood::cli::add_fit(app, action);
  ood::cli::add_score(app, action);
  ood::cli::add_monitor(app, action);
  ood::cli::add_gate(app, action);
  ood::cli::add_inspect(app, action);
  ood::cli::add_synth(app, action);
  ood::cli::add_list(app, action);
  ood::cli::add_info(app, action);

  try {
    app.parse(argc, argv);
    return action();
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app.exit(version);
  } catch (const CLI::RequiredError& error) {
    if (app.get_subcommands().empty() && argc > 1)
      fmt::print(stderr,
                 "ood: unknown command {}, expected one of eval, report, fit, score, monitor, "
                 "gate, inspect, "
                 "synth, list, info\n",
                 argv[1]);
    else
      fmt::print(stderr, "ood: {} ({} --help lists what there is)\n", one_line(error.what()),
                 command_name(app));
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "ood: {} ({} --help lists what there is)\n", one_line(error.what()),
               command_name(app));
  } catch (const std::exception& error) {
    fmt::print(stderr, "ood: {}\n", one_line(error.what()));
  }
  return ood::cli::kBadInput;
}
