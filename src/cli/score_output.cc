#include "cli/score_output.h"

#include <fmt/format.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "dataset_scores.h"
#include "errors.h"
#include "ood/dataset.h"
#include "partial_file.h"

namespace ood::cli {

namespace {

namespace fs = std::filesystem;

/// A stream of bytes: standard output, a pipe or device, or a file that has its name when it is whole.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path) : name_(path) {
    if (path.empty()) {
      name_ = "standard output";
      file_ = stdout;
      return;
    }
    std::error_code none;
    const bool there = fs::exists(path, none);
    if (there && fs::is_directory(path, none)) fail("is a directory");
    if (!there || fs::is_regular_file(path, none)) whole_.emplace(path);
    file_ = std::fopen(whole_ ? whole_->partial().c_str() : path.c_str(), "wb");
    if (file_ == nullptr) fail_with_errno();
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile() {
    if (file_ != nullptr && file_ != stdout) std::fclose(file_);
  }

  void write(std::string_view bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail_with_errno();
  }
  void flush() {
    if (std::fflush(file_) != 0) fail_with_errno();
  }
  void rewind() {
    if (std::fseek(file_, 0, SEEK_SET) != 0) fail_with_errno();
  }
  void close() {
    flush();
    if (file_ != stdout && std::fclose(std::exchange(file_, nullptr)) != 0) fail_with_errno();
    if (whole_) whole_->publish();
  }

 private:
  [[noreturn]] void fail(std::string_view reason) const {
    throw std::runtime_error(fmt::format("{}: cannot be written: {}", name_, reason));
  }
  [[noreturn]] void fail_with_errno() const { fail(std::generic_category().message(errno)); }

  std::string name_;
  std::optional<PartialFile> whole_;  // is removed after the file was closed
  std::FILE* file_ = nullptr;
};

class CsvOutput final : public ScoreOutput {
 public:
  CsvOutput(const std::string& path, bool calibrated) : file_(path), calibrated_(calibrated) {
    file_.write(calibrated ? "row,score,p_value,accepted\n" : "row,score\n");
  }
  void append(const ScoredRows& rows, std::span<const unsigned char> accepted) override {
    text_.clear();
    const auto end = std::back_inserter(text_);
    for (std::size_t i = 0; i < rows.scores.size(); ++i) {
      // the shortest text that is read back as the same number
      fmt::format_to(end, "{},{}", rows.first_row + static_cast<Index>(i), rows.scores[i]);
      if (calibrated_) fmt::format_to(end, ",{},{}", rows.p_values[i], accepted[i]);
      text_.push_back('\n');
    }
    file_.write({text_.data(), text_.size()});
    file_.flush();  // whoever reads a pipe has the rows now
  }
  void close() override { file_.close(); }

 private:
  OutputFile file_;
  bool calibrated_;
  fmt::memory_buffer text_;
};

/// A structured array, see numpy.lib.format.
class NpyOutput final : public ScoreOutput {
 public:
  NpyOutput(const std::string& path, bool calibrated) : file_(path), calibrated_(calibrated) {
    file_.write(header());
  }
  void append(const ScoredRows& rows, std::span<const unsigned char> accepted) override {
    static_assert(std::endian::native == std::endian::little);
    const std::size_t row_bytes = calibrated_ ? sizeof(float) + sizeof(double) + 1 : sizeof(float);
    bytes_.resize(row_bytes * rows.scores.size());
    char* to = bytes_.data();
    const auto put = [&to](const auto& value) {
      std::memcpy(to, &value, sizeof value);
      to += sizeof value;
    };
    for (std::size_t i = 0; i < rows.scores.size(); ++i) {
      put(rows.scores[i]);
      if (!calibrated_) continue;
      put(rows.p_values[i]);
      put(accepted[i]);
    }
    file_.write(bytes_);
    rows_ += std::ssize(rows.scores);
  }
  void close() override {
    file_.rewind();
    file_.write(header());
    file_.close();
  }

 private:
  /// Always of the same length, so that the number of rows can be put in when it is known.
  std::string header() const {
    constexpr std::size_t kBytes = 192, kPrefix = 10;
    std::string text("\x93NUMPY\x01\x00", 8);
    text += static_cast<char>(kBytes - kPrefix);
    text += '\0';
    fmt::format_to(std::back_inserter(text),
                   "{{'descr': [('score', '<f4'){}], 'fortran_order': False, 'shape': ({},), }}",
                   calibrated_ ? ", ('p_value', '<f8'), ('accepted', '|b1')" : "", rows_);
    text.resize(kBytes - 1, ' ');
    return text + '\n';
  }

  OutputFile file_;
  bool calibrated_;
  Index rows_ = 0;
  std::string bytes_;
};

class Hdf5Output final : public ScoreOutput {
 public:
  Hdf5Output(const std::string& path, const ScoreOrigin& origin)
      : arrays_(path, origin.calibrated) {
    arrays_.set_attribute("model", origin.model);
    arrays_.set_attribute("model_fingerprint", fingerprint(origin.model));
    arrays_.set_attribute("detector", origin.detector);
    arrays_.set_attribute("rows", origin.rows);
    if (origin.alpha) arrays_.set_attribute("alpha", *origin.alpha);
    if (origin.fdr) arrays_.set_attribute("fdr", *origin.fdr);
  }
  void append(const ScoredRows& rows, std::span<const unsigned char> accepted) override {
    arrays_.append(rows.scores, rows.p_values, accepted);
  }
  void close() override { arrays_.close(); }

 private:
  ScoreArrays arrays_;
};

}  // namespace

std::unique_ptr<ScoreOutput> open_score_output(const std::string& out, const ScoreOrigin& origin) {
  const std::string kind = fs::path(out).extension().string();
  std::error_code none;
  const bool special = fs::exists(out, none) && !fs::is_regular_file(out, none);
  if (kind == ".npy" || kind == ".h5" || kind == ".hdf5") {
    if (special)
      throw_invalid("--out has {}, which is no regular file, expected one for {}", out, kind);
    if (kind == ".npy") return std::make_unique<NpyOutput>(out, origin.calibrated);
    return std::make_unique<Hdf5Output>(out, origin);
  }
  if (!out.empty() && !special && kind != ".csv")
    throw_invalid("--out has {}, expected a name that ends in .csv, .npy or .h5", out);
  return std::make_unique<CsvOutput>(out, origin.calibrated);
}

}  // namespace ood::cli
