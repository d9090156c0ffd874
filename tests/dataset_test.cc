#include "ood/dataset.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "dataset_files.h"

using namespace ood;
using namespace ood::test;

TEST_CASE("dataset: every float type is read as float32") {
  const TemporaryFolder folder;
  const hid_t half = half_type(), half_be = half_type();
  H5Tset_order(half_be, H5T_ORDER_BE);
  struct Case {
    const char* dtype;
    hid_t type;
  };
  for (const Case& test : {Case{"float16", half}, Case{"float16", half_be},
                           Case{"float32", H5T_IEEE_F32LE}, Case{"float32", H5T_IEEE_F32BE},
                           Case{"float64", H5T_IEEE_F64LE}, Case{"float64", H5T_IEEE_F64BE}}) {
    CAPTURE(test.dtype);
    {
      RawFile file(folder / "types.h5");
      file.floats("/train/features", {500, 5}, number, {{64, 5}, 4}, test.type);
      file.floats("/train/copies/features", {3, 500, 5}, number, {{1, 64, 5}}, test.type);
      file.floats("/head/weight", {4, 5}, number, {}, test.type);
      file.floats("/head/bias", {4}, number, {}, test.type);
    }
    const Dataset dataset(folder / "types.h5");
    for (const ArrayInfo& array : dataset.info().arrays) CHECK(array.dtype == test.dtype);
    CHECK(dataset.head()->weight == numbers(4, 5));
    CHECK(dataset.head()->bias == numbers(4, 1));
    const auto source = dataset.source("train");
    const BatchBuffer rows = gather(*source);
    CHECK(rows.features == numbers(500, 5));
    CHECK(MatrixView(rows.copy_features.data(), 1500, 5) == numbers(1500, 5));
  }
  H5Tclose(half);
  H5Tclose(half_be);
}

TEST_CASE("dataset: special values survive, float64 beyond float32 becomes infinity") {
  const TemporaryFolder folder;
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> values{std::nan(""), inf, -inf, 0.0, 1e-7, 1e300, -1e300, 1e-300};
  const hid_t half = half_type();
  {
    RawFile file(folder / "special.h5");
    const auto value = [&](std::size_t i) { return values[i]; };
    file.floats("/train/features", {8, 1}, value, {}, H5T_IEEE_F64LE);
    file.floats("/train/layers/half", {8, 1}, value, {}, half);
  }
  H5Tclose(half);
  const auto source = Dataset(folder / "special.h5").source("train");
  const BatchBuffer rows = gather(*source);
  const float* got = rows.features.data();
  CHECK(std::isnan(got[0]));
  CHECK(got[1] == inf);
  CHECK(got[2] == -inf);
  CHECK(got[5] == inf);
  CHECK(got[6] == -inf);
  CHECK(got[7] == 0.0f);
  const float* halves = rows.layers.at("half").data();
  CHECK(std::isnan(halves[0]));
  CHECK(halves[1] == inf);
  CHECK(halves[2] == -inf);
  CHECK(halves[4] == doctest::Approx(1e-7).epsilon(0.3));  // a subnormal of half precision
}

TEST_CASE("dataset: labels of every integer type") {
  const TemporaryFolder folder;
  struct Case {
    const char* dtype;
    hid_t type;
  };
  for (const Case& test :
       {Case{"int8", H5T_STD_I8LE}, Case{"int16", H5T_STD_I16LE}, Case{"int32", H5T_STD_I32LE},
        Case{"int64", H5T_STD_I64LE}, Case{"int64", H5T_STD_I64BE}, Case{"uint8", H5T_STD_U8LE},
        Case{"uint16", H5T_STD_U16LE}, Case{"uint32", H5T_STD_U32LE}, Case{"uint64", H5T_STD_U64LE},
        Case{"uint64", H5T_STD_U64BE}}) {
    CAPTURE(test.dtype);
    {
      RawFile file(folder / "labels.h5");
      file.labels("/train/labels", some_labels(100), {}, test.type);
    }
    const Dataset dataset(folder / "labels.h5");
    CHECK(dataset.info().arrays.front().dtype == test.dtype);
    CHECK(dataset.info().classes == 0);
    const auto source = dataset.source("train");
    CHECK(source->info().classes == 11);
    CHECK(gather(*source).labels == some_labels(100));
  }
}

TEST_CASE("dataset: layers, copies and logits with chunks of different heights") {
  const TemporaryFolder folder;
  {
    RawFile file(folder / "fields.h5");
    file.floats("/id_test/features", {20000, 3}, number, {{1024, 3}, 1});
    file.floats("/id_test/logits", {20000, 4}, number, {{1000, 2}, 1});
    file.floats("/id_test/layers/a", {20000, 5}, number, {{7, 5}});
    file.floats("/id_test/layers/b", {20000, 2}, number);
    file.floats("/id_test/copies/features", {2, 20000, 3}, number, {{2, 3000, 3}, 1});
    file.floats("/id_test/copies/logits", {2, 20000, 4}, number, {{1, 17000, 4}, 1});
  }
  const Dataset dataset(folder / "fields.h5");
  const SourceInfo& info = dataset.find("id_test")->source;
  CHECK(info.copies == 2);
  CHECK(info.layers == std::map<std::string, Index>{{"a", 5}, {"b", 2}});
  CHECK(info.has.names() == std::vector<std::string>{"features", "logits", "layers",
                                                     "copies/features", "copies/logits"});
  const auto source = dataset.source("id_test");
  const BatchBuffer rows = gather(*source);
  CHECK(rows.features == numbers(20000, 3));
  CHECK(rows.logits == numbers(20000, 4));
  CHECK(rows.layers.at("a") == numbers(20000, 5));
  CHECK(rows.layers.at("b") == numbers(20000, 2));
  CHECK(MatrixView(rows.copy_features.data(), 40000, 3) == numbers(40000, 3));
  CHECK(MatrixView(rows.copy_logits.data(), 40000, 4) == numbers(40000, 4));

  SUBCASE("only what is wanted is read") {
    source->read({.logits = true, .labels = true}, [](const Batch& batch) {
      CHECK(batch.logits.has_value());
      CHECK_FALSE(batch.features.has_value());
      CHECK_FALSE(batch.labels.has_value());
      CHECK(batch.layers.empty());
    });
    source->read({}, [](const Batch&) { FAIL("nothing was wanted"); });
  }
}

TEST_CASE("dataset: the description of a file") {
  const TemporaryFolder folder;
  const auto path = folder / "described.h5";
  {
    RawFile file(path);
    file.text("/", "model", "Ünet", false, H5T_CSET_UTF8, H5T_STR_NULLPAD);
    file.text("/", "id_dataset", "digits", true, H5T_CSET_ASCII);
    file.zeros("/csid/noisy/features", {2, 3});
    file.zeros("/ood/b/features", {2, 3});
    file.text("/ood/b", "kind", "near", false, H5T_CSET_ASCII, H5T_STR_SPACEPAD);
    file.zeros("/ood/a/logits", {4, 2});
    file.text("/ood/a", "kind", "far");
    file.zeros("/ood_val/v/features", {2, 3});
    file.labels("/train/labels", {0, 0, 0});
    // what the layout does not know is ignored
    file.labels("/train/row", {0, 1});
    file.zeros("/head/copies/weight", {8, 2, 3});
    file.zeros("/attic/features", {2, 9});
    file.text("/", "note", "a note");
    file.attribute("/train", "kind", H5T_NATIVE_INT, std::vector<int>{3}.data());
  }
  const Dataset dataset(path);
  const DatasetInfo& info = dataset.info();
  CHECK(info.path == path);
  CHECK(info.model == "Ünet");
  CHECK(info.id_dataset == "digits");
  CHECK(info.dim == 3);
  CHECK(info.classes == 2);
  CHECK(dataset.head() == nullptr);
  std::vector<std::string> splits, arrays;
  for (const SplitInfo& split : info.splits) splits.push_back(split.name + " " + split.kind);
  for (const ArrayInfo& array : info.arrays) arrays.push_back(array.path);
  CHECK(splits ==
        std::vector<std::string>{"train ", "ood_val/v ", "ood/a far", "ood/b near", "csid/noisy "});
  CHECK(arrays == std::vector<std::string>{"/train/labels", "/ood_val/v/features", "/ood/a/logits",
                                           "/ood/b/features", "/csid/noisy/features"});
  const SplitInfo* a = dataset.find("ood/a");
  CHECK(a->source.name == path.string() + ": /ood/a");
  CHECK(a->source.rows == 4);
  CHECK(a->source.dim == 3);
  CHECK(a->source.has.names() == std::vector<std::string>{"logits"});
  CHECK(info.arrays[2].shape == std::vector<std::int64_t>{4, 2});
  CHECK(info.arrays[2].bytes == 32);
  CHECK(dataset.find("ood") == nullptr);
  CHECK(dataset.source("train")->info().classes == 2);  // of the logits elsewhere in the file
}

TEST_CASE("dataset: the head is the reference and is listed last") {
  const TemporaryFolder folder;
  {
    RawFile file(folder / "head.h5");
    file.floats("/head/weight", {4, 3}, number);
    file.floats("/head/bias", {4}, number);
    file.labels("/id_val/labels", {1, 2});
  }
  const Dataset dataset(folder / "head.h5");
  CHECK(dataset.info().dim == 3);
  CHECK(dataset.info().classes == 4);
  CHECK(dataset.info().arrays.back().path == "/head/bias");
  const auto source = dataset.source("id_val");
  CHECK(source->head() == dataset.head());
  CHECK(source->info().has.names() == std::vector<std::string>{"labels", "head"});
}

TEST_CASE("dataset: a file that the application holds open can be read") {
  const TemporaryFolder folder;
  {
    RawFile file(folder / "held.h5");
    file.zeros("/train/features", {2, 3});
  }
  const auto path = folder / "held.h5";
  const hid_t held = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  CHECK(gather(*Dataset(path).source("train")).features == Matrix::Zero(2, 3));
  H5Fclose(held);
}

TEST_CASE("dataset: HDF5's error printing is as the application left it") {
  const TemporaryFolder folder;
  H5E_auto2_t before = nullptr, after = nullptr;
  void *before_data = nullptr, *after_data = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &before, &before_data);
  CHECK_THROWS(Dataset(folder / "absent.h5"));
  H5Eget_auto2(H5E_DEFAULT, &after, &after_data);
  CHECK((before != nullptr));
  CHECK((before == after));
  CHECK(before_data == after_data);
}

TEST_CASE("dataset: files written by h5py") {
  std::filesystem::path folder;
  if (const char* shared = std::getenv("OOD_SHARED_DATA")) folder = shared;
#ifdef OOD_SOURCE_DIR
  else
    folder = OOD_SOURCE_DIR "/../shared/data";
#endif
  if (!std::filesystem::exists(folder / "densenet_bc100_cifar10_layers.h5")) {
    MESSAGE("no shared data: skipped");
    return;
  }
  const Dataset layers(folder / "densenet_bc100_cifar10_layers.h5");
  CHECK(layers.info().id_dataset == "cifar10");
  CHECK(layers.find("ood/svhn")->kind == "far");
  CHECK(layers.info().arrays.front().storage == "chunks 1024 x 342, shuffle, gzip");
  const auto source = layers.source("ood/svhn");
  const BatchBuffer rows = gather(*source);
  CHECK(rows.layers.size() == 4);
  CHECK(rows.layers.at("block3") == rows.features);  // a hard link
  const Matrix logits = (rows.features * layers.head()->weight.transpose()).rowwise() +
                        layers.head()->bias.transpose();
  CHECK((logits - rows.logits).cwiseAbs().maxCoeff() < 1e-4);

  const auto copies = Dataset(folder / "resnet56_cifar10_perturbed_k8.h5").source("id_test");
  CHECK(copies->info().copies == 8);
  const BatchBuffer perturbed = gather(*copies);
  CHECK(perturbed.copy_features.shape()[1] == 4000);
  const MatrixView last(perturbed.copy_logits.data() + 7 * 4000 * 10, 4000, 10);
  Index right = 0;
  for (Index i = 0; i < 4000; ++i) {
    Index top = 0;
    last.row(i).maxCoeff(&top);
    right += top == perturbed.labels[static_cast<std::size_t>(i)];
  }
  CHECK(right == 3718);  // 0.9295, as the file's attribute says
}

TEST_CASE("dataset: the fingerprint is what xxh128sum prints") {
  const TemporaryFolder folder;
  const auto path = folder / "bytes";
  const auto of = [&](const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
    return fingerprint(path);
  };
  CHECK(of("") == "99aa06d3014798d86001c324468d497f");
  CHECK(of("a") == "a96faf705af16834e6c632b61e964e1f");
  CHECK(of("libood") == "630b97120e1ad366370df3d85756307d");
  std::string blocks((3 << 20) + 17, ' ');  // three blocks and a part of one
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<char>(i % 251);
  CHECK(of(blocks) == "a8d2aaa87f9b2799fb45fcd49e8371b7");
  const std::string missing = (folder / "nothing").string(), itself = folder.path().string();
  CHECK_THROWS_WITH_AS(fingerprint(missing), (missing + ": cannot be opened").c_str(),
                       std::runtime_error);
  CHECK_THROWS_WITH_AS(fingerprint(itself), (itself + ": cannot be read").c_str(),
                       std::runtime_error);
}
