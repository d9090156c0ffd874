#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>

#include "dataset_files.h"

using namespace ood;
using namespace ood::test;

namespace {

/// Arrays of a split with every field that there is.
struct Arrays {
  Matrix features, logits, layer;
  std::vector<std::int64_t> labels;
  Tensor3 copy_features, copy_logits;

  explicit Arrays(Index n, Index copies = 3)
      : features(Matrix::Random(n, 6)),
        logits(Matrix::Random(n, 4)),
        layer(Matrix::Random(n, 2)),
        labels(static_cast<std::size_t>(n)) {
    const auto size = [](Index value) { return static_cast<std::size_t>(value); };
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i % 4);
    copy_features.resize({size(copies), size(n), 6});
    copy_logits.resize({size(copies), size(n), 4});
    for (std::size_t i = 0; i < copy_features.size(); ++i)
      copy_features.data()[i] = static_cast<float>(i % 977) / 8;
    for (std::size_t i = 0; i < copy_logits.size(); ++i)
      copy_logits.data()[i] = static_cast<float>(i % 811) / 8;
  }
  Batch batch() const {
    Batch all;
    all.features = features;
    all.logits = logits;
    all.labels = labels;
    all.layers["conv1"] = layer;
    const auto view = [](const Tensor3& tensor) {
      const auto& strides = tensor.strides();
      return xt::adapt(static_cast<const float*>(tensor.data()), tensor.size(), xt::no_ownership(),
                       std::array{tensor.shape()[0], tensor.shape()[1], tensor.shape()[2]},
                       std::array<std::ptrdiff_t, 3>{strides[0], strides[1], strides[2]});
    };
    all.copy_features.emplace(view(copy_features));
    all.copy_logits.emplace(view(copy_logits));
    return all;
  }
};

Batch features_only(const Matrix& features) {
  Batch batch;
  batch.features = features;
  return batch;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t files_in(const TemporaryFolder& folder) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

/// A file with all of `arrays`, written in batches of `batch_rows`.
void write_all(const std::filesystem::path& path, const Arrays& arrays, Index batch_rows,
               DatasetWriter::Options options = {}) {
  DatasetWriter writer(path, std::move(options));
  const Batch all = arrays.batch();
  for (Index begin = 0; begin < all.rows(); begin += batch_rows)
    writer.append("train", all.slice(begin, std::min(batch_rows, all.rows() - begin)));
  for (Index begin = 0; begin < all.rows(); begin += batch_rows)
    writer.append("ood/svhn", all.slice(begin, std::min(batch_rows, all.rows() - begin)), "far");
  writer.close();
}

}  // namespace

TEST_CASE("dataset writer: what is written is read, for every float type and compression") {
  const TemporaryFolder folder;
  const auto path = folder / "written.h5";
  const Arrays arrays(2500);
  for (const FloatType type : {FloatType::float16, FloatType::float32, FloatType::float64})
    for (const int level : {0, 1, 9}) {
      CAPTURE(level);
      write_all(path, arrays, 700, {.float_type = type, .gzip_level = level});
      const Dataset dataset(path);
      CHECK(dataset.find("ood/svhn")->kind == "far");
      CHECK(dataset.info().arrays.front().dtype == (type == FloatType::float16   ? "float16"
                                                    : type == FloatType::float32 ? "float32"
                                                                                 : "float64"));
      CHECK(dataset.info().arrays.front().storage ==
            (level == 0 ? "chunks 1024 x 6" : "chunks 1024 x 6, shuffle, gzip"));
      CHECK(dataset.info().arrays[4].storage.starts_with("chunks 1 x 1024 x 6"));
      const auto source = dataset.source("train");
      const BatchBuffer rows = gather(*source);
      const float tolerance = type == FloatType::float16 ? 5e-4f : 0.0f;
      CHECK((rows.features - arrays.features).cwiseAbs().maxCoeff() <= tolerance);
      CHECK((rows.logits - arrays.logits).cwiseAbs().maxCoeff() <= tolerance);
      CHECK((rows.layers.at("conv1") - arrays.layer).cwiseAbs().maxCoeff() <= tolerance);
      CHECK(rows.labels == arrays.labels);
      CHECK(rows.copy_features == arrays.copy_features);  // multiples of 1/8
      CHECK(rows.copy_logits == arrays.copy_logits);
    }
}

TEST_CASE("dataset writer: float16 is rounded to the nearest, ties to even") {
  const TemporaryFolder folder;
  const auto path = folder / "half.h5";
  Matrix values(6, 1);
  values << 2049.0f, 2051.0f, 65519.0f, 6e-8f, INFINITY, NAN;
  DatasetWriter writer(path, {.float_type = FloatType::float16});
  writer.append("train", features_only(values));
  writer.close();
  const auto source = Dataset(path).source("train");
  const BatchBuffer rows = gather(*source);
  CHECK(rows.features(0, 0) == 2048.0f);
  CHECK(rows.features(1, 0) == 2052.0f);
  CHECK(rows.features(2, 0) == 65504.0f);
  CHECK(rows.features(3, 0) == std::ldexp(1.0f, -24));
  CHECK(rows.features(4, 0) == INFINITY);
  CHECK(std::isnan(rows.features(5, 0)));
}

TEST_CASE("dataset writer: the same content gives the same bytes, however it is cut") {
  const TemporaryFolder folder;
  const Arrays arrays(3000);
  write_all(folder / "a.h5", arrays, 3000);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // time stamps count seconds
  write_all(folder / "b.h5", arrays, 3000);
  write_all(folder / "c.h5", arrays, 37);
  CHECK(bytes_of(folder / "a.h5") == bytes_of(folder / "b.h5"));
  CHECK(bytes_of(folder / "a.h5") == bytes_of(folder / "c.h5"));
}

TEST_CASE("dataset writer: head and attributes") {
  const TemporaryFolder folder;
  const auto path = folder / "head.h5";
  const Head head{Matrix::Random(4, 6), Vector::Random(4)};
  for (const FloatType type : {FloatType::float16, FloatType::float32, FloatType::float64}) {
    DatasetWriter writer(path, {.model = "net", .id_dataset = "Zürich", .float_type = type});
    writer.set_attribute("note", "first");
    writer.set_attribute("note", "");
    writer.write_head(head);
    writer.append("train", Arrays(10).batch());
    writer.append("csid/noisy", features_only(Matrix::Zero(1, 6)));
    writer.close();
    const Dataset dataset(path);
    CHECK(dataset.info().model == "net");
    CHECK(dataset.info().id_dataset == "Zürich");
    CHECK(dataset.head()->weight == head.weight);  // never in half precision
    CHECK(dataset.head()->bias == head.bias);
    CHECK(dataset.find("csid/noisy")->source.rows == 1);
  }
  // h5py gives str for UTF-8 strings of variable length only
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t attribute = H5Aopen(file, "model", H5P_DEFAULT), type = H5Aget_type(attribute);
  CHECK(H5Tis_variable_str(type) > 0);
  CHECK(H5Tget_cset(type) == H5T_CSET_UTF8);
  H5Tclose(type);
  H5Aclose(attribute);
  H5Fclose(file);
}

TEST_CASE("dataset writer: wide rows are stored in smaller chunks") {
  const TemporaryFolder folder;
  const auto path = folder / "wide.h5";
  const Matrix wide = Matrix::Random(1100, 5000);
  DatasetWriter writer(path, {.gzip_level = 0});
  writer.append("train", features_only(wide));
  writer.close();
  const Dataset dataset(path);
  CHECK(dataset.info().arrays.front().storage == "chunks 512 x 5000");
  const auto source = dataset.source("train");
  CHECK(gather(*source).features == wide);
}

TEST_CASE("dataset writer: a file is whole or as it was before") {
  const TemporaryFolder folder;
  const auto path = folder / "whole.h5";
  { DatasetWriter never_closed(path, {}); }
  CHECK(files_in(folder) == 0);

  const Matrix two = Matrix::Ones(2, 3);
  {
    DatasetWriter writer(path, {});
    writer.append("train", features_only(two));
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(files_in(folder) == 1);
    writer.close();
  }
  CHECK(files_in(folder) == 1);
  const std::string before = bytes_of(path);
  {
    DatasetWriter writer(path, {});
    writer.append("train", features_only(Matrix::Zero(5000, 3)));
  }
  CHECK(files_in(folder) == 1);
  CHECK(bytes_of(path) == before);

  // replaced while it is being read: the reader goes on with what it opened
  const auto source = Dataset(path).source("train");
  DatasetWriter writer(path, {});
  writer.append("train", features_only(Matrix::Zero(7, 3)));
  writer.close();
  CHECK(gather(*source).features == two);
  CHECK(Dataset(path).find("train")->source.rows == 7);
}

TEST_CASE("dataset writer: batches without rows leave no trace") {
  const TemporaryFolder folder;
  const auto path = folder / "empty.h5";
  DatasetWriter writer(path, {});
  writer.append("train", Batch{});
  writer.append("ood/a", features_only(Matrix(0, 3)), "near");
  writer.append("ood/a", features_only(Matrix::Ones(1, 3)));
  writer.append("ood/a", features_only(Matrix::Ones(1, 3)), "far");
  writer.close();
  const Dataset dataset(path);
  CHECK(dataset.info().splits.size() == 1);
  CHECK(dataset.find("ood/a")->kind == "far");
}

TEST_CASE("dataset writer errors: what was refused can be mended") {
  const TemporaryFolder folder;
  const auto path = folder / "out.h5";
  DatasetWriter writer(path, {});
  const auto error = [&](const std::string& split, const Batch& batch,
                         const std::string& kind = "") {
    return error_of(path, [&] { writer.append(split, batch, kind); });
  };
  const Matrix rows = Matrix::Ones(2, 3), wider = Matrix::Ones(2, 4);
  const Batch good = features_only(rows);
  for (const std::string split :
       {"", "test", "ood", "ood/", "ood/a/b", "ood/..", "/train", "train/a"})
    CHECK(error(split, good) ==
          "invalid_argument: out.h5: has no place for split " + split +
              ", expected train, id_val, id_test, ood_val/<name>, ood/<name> or "
              "csid/<name>");
  CHECK(error("ood/a", good, "medium") ==
        "invalid_argument: out.h5: /ood/a has kind medium, expected near or far");
  CHECK(error("train", good, "near") ==
        "invalid_argument: out.h5: /train has kind near, expected none, which only ood/ and "
        "ood_val/ have");

  Batch bad = good;
  const std::vector<std::int64_t> negative{0, -5}, three{0, 1, 2};
  bad.labels = negative;
  CHECK(error("train", bad) ==
        "invalid_argument: out.h5: /train/labels has -5 at row 1 of the batch, expected 0 or more");
  bad.labels = three;
  CHECK(error("train", bad) ==
        "invalid_argument: batch: labels has 3 rows, expected 2 as features has");
  bad.labels.reset();
  bad.layers["a/b"] = rows;
  CHECK(error("train", bad) ==
        "invalid_argument: out.h5: /train/layers/a/b has a name with a slash or "
        "dots, expected a plain one");
  CHECK(error("train", features_only(Matrix(2, 0))) ==
        "invalid_argument: out.h5:/train: features has 0 columns, expected 1 or more");

  writer.append("train", good);
  CHECK(
      error("train", features_only(wider)) ==
      "invalid_argument: out.h5: /train/features has 4 columns, expected 3 as /train/features has");
  CHECK(
      error("ood/a", features_only(wider)) ==
      "invalid_argument: out.h5: /ood/a/features has 4 columns, expected 3 as /train/features has");
  bad.layers.clear();
  bad.logits = wider;
  CHECK(error("train", bad) ==
        "invalid_argument: out.h5: /train has features, logits, expected features as before");
  writer.append("ood/a", good, "near");
  CHECK(error("ood/a", good, "far") ==
        "invalid_argument: out.h5: /ood/a has kind far, expected near as before");
  CHECK(error_of(path,
                 [&] {
                   writer.write_head({wider, Vector::Ones(2)});
                 }) ==
        "invalid_argument: out.h5: /head/weight has 4 columns, expected 3 as /train/features has");
  CHECK(error_of(path, [&] {
          writer.set_attribute("", "x");
        }).starts_with("invalid_argument: out.h5: "));

  writer.append("train", good);
  writer.close();
  CHECK(Dataset(path).find("train")->source.rows == 4);
  CHECK(error("train", good) == "invalid_argument: out.h5: is closed, expected an open file");
}

TEST_CASE("dataset writer errors: the head") {
  const TemporaryFolder folder;
  const auto path = folder / "out.h5";
  const auto error = [&](const Head& head) {
    return error_of(path, [&] { DatasetWriter(path, {}).write_head(head); });
  };
  CHECK(error({Matrix::Ones(2, 3), Vector::Ones(3)}) ==
        "invalid_argument: out.h5: /head/bias has 3 entries, expected 2 as /head/weight has rows");
  CHECK(error({Matrix(0, 3), Vector(0)}) ==
        "invalid_argument: out.h5: /head/weight has shape [0, 3], expected [C, D], each 1 or more");
  CHECK(error({Matrix::Constant(2, 3, NAN), Vector::Ones(2)}) ==
        "invalid_argument: out.h5: /head has NaN or infinity, expected finite values");
}

TEST_CASE("dataset writer errors: nothing is left of a file that cannot be written") {
  const TemporaryFolder folder;
  const auto path = folder / "out.h5";
  CHECK(error_of(path, [&] { DatasetWriter(path, {.gzip_level = 10}); }) ==
        "invalid_argument: out.h5: gzip_level has 10, expected 0 to 9");
  const auto lost = folder / "absent" / "out.h5";
  CHECK(error_of(lost, [&] { DatasetWriter(lost, {}); })
            .starts_with("runtime_error: out.h5: cannot be "
                         "created: "));
  DatasetWriter empty(path, {});
  CHECK(error_of(path, [&] { empty.close(); }) ==
        "invalid_argument: out.h5: has no rows, expected a split");

  DatasetWriter half(path, {.float_type = FloatType::float16});
  Matrix large = Matrix::Ones(2000, 2);
  large(1030, 1) = -70000.0f;
  half.append("train", features_only(large));
  CHECK(error_of(path, [&] { half.close(); }) ==
        "invalid_argument: out.h5: /train/features has -70000 at row 1030, expected at most 65504 "
        "for "
        "float16");
  CHECK(error_of(path, [&] { half.close(); }) ==
        "invalid_argument: out.h5: is closed, expected an open file");

  DatasetWriter blocked(path, {});
  std::filesystem::create_directory(path);
  CHECK(error_of(path, [&] { DatasetWriter(path, {}); }) ==
        "runtime_error: out.h5: cannot be written: there is something that is no file");
  blocked.append("train", features_only(large));
  CHECK(error_of(path, [&] { blocked.close(); }) ==
        "runtime_error: out.h5: cannot be written: Is a directory");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("writer: what is refused leaves no trace, not even a width") {
  const auto path = std::filesystem::temp_directory_path() / "ood_writer_refused.h5";
  {
    DatasetWriter writer(path, {});
    CHECK_THROWS_AS(writer.write_head({Matrix::Ones(10, 4), Vector::Zero(9)}),
                    std::invalid_argument);
    const Matrix wide = Matrix::Ones(3, 7), narrow = Matrix::Ones(3, 4),
                 logits = Matrix::Ones(3, 9);
    Batch refused;
    refused.features = wide;
    refused.layers["a/b"] = wide;  // a slash in a name
    CHECK_THROWS_AS(writer.append("train", refused), std::invalid_argument);
    writer.write_head({Matrix::Ones(9, 4), Vector::Zero(9)});
    Batch batch;
    batch.features = narrow;
    batch.logits = logits;
    writer.append("train", batch);
    writer.close();
  }
  CHECK(Dataset(path).info().dim == 4);
  std::filesystem::remove(path);
}
