"""The feature file: what is read when, what comes back, what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood
from conftest import COPIES, DIM, make_head, make_rows

KEYWORDS = ["features", "logits", "labels", "copy_features", "copy_logits"]


@pytest.fixture(scope="module")
def full(full_file: Path) -> ood.Dataset:
    return ood.open(full_file)


def test_structure(full: ood.Dataset, full_file: Path) -> None:
    assert (full.path, full.model, full.id_dataset) == (str(full_file), "net", "clusters")
    assert (full.dim, full.classes) == (DIM, 3)
    assert list(full.splits) == ["train", "id_val", "id_test", "ood_val/noise", "ood/far", "ood/near"]
    assert list(full.ood) == ["far", "near"] and list(full.ood_val) == ["noise"] and full.csid == {}
    assert [len(split) for split in (full.train, full.id_test, full.ood["near"])] == [120, 100, 90]
    assert [split.kind for split in full.splits.values()] == ["", "", "", "far", "far", "near"]
    assert full.ood["near"].name == "ood/near"
    assert full.train.shapes == {
        "features": (120, DIM), "logits": (120, 3), "labels": (120,), "layers/early": (120, 5),
        "layers/late": (120, 7), "copies/features": (COPIES, 120, DIM), "copies/logits": (COPIES, 120, 3)}
    assert full.head is not None
    for stored, given in zip(full.head, make_head()):
        assert stored.dtype == np.float32 and np.array_equal(stored, given)


def test_what_is_written_is_read(full: ood.Dataset) -> None:
    for split, rows in ((full.train, make_rows(1)), (full.id_test, make_rows(4, 100)),
                        (full.ood["near"], make_rows(5, 90, 1.0))):
        for keyword in KEYWORDS:
            stored = getattr(split, keyword)
            values = np.asarray(stored)
            assert values.dtype == stored.dtype == (np.int64 if keyword == "labels" else np.float32)
            assert values.shape == stored.shape and len(stored) == len(values) and stored.ndim == values.ndim
            assert np.array_equal(values, rows[keyword])
        assert list(split.layers) == ["early", "late"]
        for name, layer in split.layers.items():
            assert np.array_equal(np.asarray(layer), rows["layers"][name])


KEYS = [slice(None), slice(3, 9), slice(-5, None), slice(None, -100), slice(2, 90, 7), slice(90, 2, -7),
        slice(None, None, -1), slice(50, 50), slice(60, 50), slice(100, 500), slice(500, 900), 0, 5, -1, np.int32(7),
        np.uint8(8), [3, 1, 1], np.array([4, 2]), np.arange(120) % 5 == 0, Ellipsis, (), None,
        (slice(2, 6), 1), (slice(6, 2, -1), 1), (3, -1), (slice(None), [0, 2]), (Ellipsis, 0), (None, slice(1, 3)),
        ([1, 2], [0, 1]), (slice(4, 4), 0), (5, slice(None, None, 2))]


@pytest.mark.parametrize("key", KEYS, ids=repr)
@pytest.mark.parametrize("name", ["features", "logits", "labels", "copy_features"])
def test_slices_are_numpys(full: ood.Dataset, name: str, key: Any) -> None:
    stored, values = getattr(full.train, name), make_rows(1)[name].astype(getattr(full.train, name).dtype)
    try:
        expected = values[key]
    except IndexError as error:
        with pytest.raises(IndexError):
            stored[key]
        assert str(error)
        return
    found = stored[key]
    assert type(found) is type(expected) and found.dtype == expected.dtype
    assert np.shape(found) == np.shape(expected) and np.array_equal(found, expected)


@pytest.mark.parametrize("key", [120, -121, (0, 99), (slice(0, 2), 99), "features", 1.5])
def test_wrong_indices(full: ood.Dataset, key: Any) -> None:
    with pytest.raises((IndexError, TypeError)):
        full.train.features[key]
    with pytest.raises((IndexError, TypeError)):
        make_rows(1)["features"][key]


def test_arrays_iterate_and_convert(full: ood.Dataset) -> None:
    features = make_rows(1)["features"]
    assert np.array_equal(np.stack([*full.train.features]), features)
    assert np.asarray(full.train.features, np.float64).dtype == np.float64
    assert np.array_equal(np.mean(full.train.features, axis=0), features.mean(axis=0))
    with pytest.raises(ValueError, match="without a copy"):
        full.train.features.__array__(copy=False)
    assert ood.Ssd().fit(full.train.features).score(full.train.features).shape == (120,)


def test_reprs(full: ood.Dataset) -> None:
    assert repr(full.train.features) == "<Array /train/features [120, 12] float32>"
    assert repr(full.ood["near"]).startswith("<Split /ood/near (near): features [90, 12], logits [90, 3]")
    assert "net, D = 12, C = 3" in repr(full) and "</Split" not in repr(full)
    assert all(f"/{name}" in repr(full) for name in full.splits)


def test_what_is_missing_is_named(digits: Path) -> None:
    dataset = ood.open(digits)
    with pytest.raises(AttributeError, match="/ood/digit_9 has no labels, it has features, logits"):
        dataset.ood["digit_9"].labels
    with pytest.raises(AttributeError, match="/train has no copies/features"):
        dataset.train.copy_features
    assert dataset.train.layers == {}
    with pytest.raises(KeyError):
        dataset.ood["nonsense"]


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    ood.write(tmp_path / "small.h5", id_test={"logits": np.eye(3, dtype=np.float32)})
    dataset = ood.open(tmp_path / "small.h5")
    with pytest.raises(AttributeError, match="has no /train, it has id_test"):
        dataset.train
    assert (dataset.ood, dataset.head, dataset.model) == ({}, None, "")


def test_datasets_are_pickled_by_path(full: ood.Dataset) -> None:
    again = pickle.loads(pickle.dumps(full))
    assert again.path == full.path and again.train.shapes == full.train.shapes
    split = pickle.loads(pickle.dumps(full.train))
    assert np.array_equal(np.asarray(split.features), np.asarray(full.train.features))


# --- Lazy.

LAZY = """
import sys
import ood

def read():
    return int(open("/proc/self/io").read().split("rchar:")[1].split()[0])

before = read()
dataset = ood.open(sys.argv[1])
shapes = [split.shapes for split in dataset.splits.values()]
array = dataset.train.features
array.shape, array.dtype, len(array), repr(dataset), dataset.head, array[5:5]
shown = read()
array[10:20]
some = read()
import numpy
numpy.asarray(array)
print(shown - before, some - shown, read() - some)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.h5"
    features = np.random.default_rng(0).normal(size=(50_000, 64)).astype(np.float32)
    ood.write(path, train={"features": features}, gzip_level=0)
    assert path.stat().st_size >= features.nbytes
    return path


def test_shapes_are_known_without_reading(large: Path, python: Any) -> None:
    """By the bytes that the process has read: 12.8 MB are there."""
    shown, some, rest = map(int, python(LAZY, large).stdout.split())
    assert shown < 200_000
    assert some < 2_000_000, "ten rows need their chunks alone"
    assert rest >= 12_800_000, "else the measure sees nothing"


def test_damaged_rows_are_an_error_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    features = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    ood.write(path, train={"features": features, "labels": np.arange(5000) % 3}, gzip_level=4)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    dataset = ood.open(path)
    assert dataset.train.shapes == {"features": (5000, 64), "labels": (5000,)}
    assert np.array_equal(dataset.train.features[:3], features[:3])
    for call in (lambda: np.asarray(dataset.train.features), lambda: ood.Ssd().fit(dataset),
                 lambda: ood.Ssd().fit(features).score(dataset.train)):
        with pytest.raises(OSError, match="damaged.h5"):
            call()


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    rows = make_rows(1)
    rows["features"][7, 3] = np.nan
    ood.write(tmp_path / "nan.h5", train={"features": rows["features"], "labels": rows["labels"]})
    dataset = ood.open(tmp_path / "nan.h5")
    with pytest.raises(ValueError, match="/train/features has NaN at row 7, column 3, expected finite"):
        ood.Ssd().fit(dataset)
    with pytest.raises(ValueError, match="/train/features has NaN at row 7, column 3"):
        ood.Ssd().fit(make_rows(1)["features"]).score(dataset.train)


# --- Errors of opening.

def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.h5: no such file"):
        ood.open(tmp_path / "none.h5")
    with pytest.raises(OSError):
        ood.open(tmp_path)
    for name, content in (("empty.h5", b""), ("text.h5", b"hello\n" * 1000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises((OSError, ValueError), match=f"{name}: is not an HDF5 file"):
            ood.open(tmp_path / name)
    (tmp_path / "cut.h5").write_bytes(Path(__file__).parents[2].joinpath("examples/data/digits.h5").read_bytes()[:9999])
    with pytest.raises(OSError, match="cut.h5"):
        ood.open(tmp_path / "cut.h5")
    (tmp_path / "link.h5").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="link.h5"):
        ood.open(tmp_path / "link.h5")
    for wrong in (3, None, [1]):
        with pytest.raises(TypeError):
            ood.open(wrong)  # type: ignore[arg-type]


def test_paths_of_every_kind(full_file: Path, tmp_path: Path) -> None:
    odd = tmp_path / "ümläut ⟨1⟩.h5"
    ood.write(odd, id_test={"logits": np.eye(3, dtype=np.float32)})
    assert ood.open(str(odd)).path == str(odd)
    assert len(ood.open(odd).id_test) == 3
    assert len(ood.open(full_file).train) == 120


# --- Writing.

@pytest.mark.parametrize(("dtype", "error"), [("float16", 2**-11), ("float32", 0.0), ("float64", 0.0)])
@pytest.mark.parametrize("gzip_level", [0, 4, 9])
def test_stored_types(tmp_path: Path, dtype: str, error: float, gzip_level: int) -> None:
    rows = make_rows(1)
    ood.write(tmp_path / "typed.h5", train=rows, dtype=dtype, gzip_level=gzip_level)
    train = ood.open(tmp_path / "typed.h5").train
    assert train.features.stored_dtype == dtype and train.features.dtype == np.float32
    assert np.allclose(train.features, rows["features"], rtol=error, atol=2.0**-24)
    if not error:
        assert np.array_equal(train.features, rows["features"])
    assert np.array_equal(train.labels, rows["labels"])


@pytest.mark.parametrize("sizes", [[120], [1, 119], [50, 0, 70], [40, 40, 40]])
def test_blocks_are_put_together(tmp_path: Path, sizes: list[int]) -> None:
    rows = make_rows(1)
    path = tmp_path / "blocks.h5"
    with ood.Writer(path, model="net", id_dataset="clusters") as writer:
        begin = 0
        for size in sizes:
            here = slice(begin, begin + size)
            writer.append("ood/noise", features=rows["features"][here], labels=rows["labels"][here],
                          logits=rows["logits"][here].astype(np.float64),
                          layers={name: layer[here] for name, layer in rows["layers"].items()},
                          copy_features=rows["copy_features"][:, here], copy_logits=rows["copy_logits"][:, here],
                          kind="far" if begin == 0 else "")
            begin += size
        writer.write_head(*make_head())
        writer.set_attribute("source", "a test")
        assert not path.exists(), "it appears as a whole"
    split = ood.open(path).ood["noise"]
    assert split.kind == "far"
    for keyword in KEYWORDS:
        assert np.array_equal(np.asarray(getattr(split, keyword)), rows[keyword])
    for name, layer in split.layers.items():
        assert np.array_equal(layer, rows["layers"][name])


def test_attributes_are_written(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    ood.write(tmp_path / "told.h5", id_test={"logits": np.eye(3, dtype=np.float32)}, model="net",
              attributes={"source": "a test", "note": "für später"})
    with h5py.File(tmp_path / "told.h5") as file:
        assert {key: file.attrs[key] for key in ("model", "source", "note")} == {
            "model": "net", "source": "a test", "note": "für später"}


def test_every_split_is_written(tmp_path: Path) -> None:
    rows = {"logits": np.eye(4, 3, dtype=np.float32)}
    ood.write(tmp_path / "all.h5", train=rows, id_val=rows, id_test=rows, ood={"a": rows}, ood_val={"b": rows},
              csid={"c": rows})
    assert set(ood.open(tmp_path / "all.h5").splits) == {"train", "id_val", "id_test", "ood/a", "ood_val/b", "csid/c"}


class Stop(Exception):
    pass


def test_leaving_by_an_exception_leaves_nothing(tmp_path: Path) -> None:
    rows = make_rows(1)
    with pytest.raises(Stop):
        with ood.Writer(tmp_path / "half.h5") as writer:
            writer.append("train", features=rows["features"])
            raise Stop
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="logits has 7 rows"):
        ood.write(tmp_path / "half.h5", train={"features": rows["features"], "logits": rows["logits"][:7]})
    assert os.listdir(tmp_path) == []


def test_leaving_by_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    ood.write(path, id_test={"logits": np.eye(3, dtype=np.float32)})
    before = path.read_bytes()
    with pytest.raises(Stop):
        with ood.Writer(path) as writer:
            writer.append("train", features=make_rows(1)["features"])
            raise Stop
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["old.h5"]


def test_a_closed_writer(tmp_path: Path) -> None:
    writer = ood.Writer(tmp_path / "closed.h5")
    writer.append("train", features=make_rows(1)["features"])
    writer.close()
    for call in (lambda: writer.append("train", features=make_rows(1)["features"]), writer.close,
                 lambda: writer.write_head(*make_head()), lambda: writer.set_attribute("a", "b")):
        with pytest.raises(ValueError, match="Writer: closed, expected an open one"):
            call()
    assert len(ood.open(tmp_path / "closed.h5").train) == 120


FLOATS = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({}, ValueError, "has no rows, expected a split"),
    ({"train": {}}, ValueError, "has no rows, expected a split"),
    ({"train": {"features": FLOATS.astype(int)}}, TypeError, "features has dtype int64, expected floating"),
    ({"train": {"features": FLOATS[0]}}, ValueError, r"features has shape \[3\], expected \[n, D\]"),
    ({"train": {"feature": FLOATS}}, TypeError, "feature"),
    ({"train": {"features": FLOATS}, "id_test": {"features": FLOATS[:, :2]}}, ValueError, "2 columns|expected 3"),
    ({"ood": {"a": {"logits": FLOATS, "kind": "nearly"}}}, ValueError, "nearly, expected .*near"),
    ({"ood": {"a/b": {"logits": FLOATS}}}, ValueError, "a/b"),
    ({"ood": {"": {"logits": FLOATS}}}, ValueError, "ood/"),
    ({"train": {"logits": FLOATS}, "dtype": "int8"}, ValueError, "dtype has int8, expected one of float16"),
    ({"train": {"logits": FLOATS}, "gzip_level": 10}, ValueError, "gzip.* has 10, expected"),
    ({"train": {"features": FLOATS}, "head": (FLOATS, np.zeros(3, np.float32))}, ValueError, "bias has 3"),
])
def test_wrong_contents(tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ood.write(tmp_path / "wrong.h5", **arguments)
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    rows = {"logits": FLOATS}
    with pytest.raises(OSError, match="none"):
        ood.write(tmp_path / "none" / "file.h5", id_test=rows)
    with pytest.raises(OSError):
        ood.write(tmp_path, id_test=rows)


def test_slices_of_copies_read_their_rows_alone(tmp_path: Path) -> None:
    copies = np.random.default_rng(0).normal(size=(3, 500, 4)).astype(np.float32)
    ood.write(tmp_path / "copies.h5", train={"copy_features": copies})
    array = ood.open(tmp_path / "copies.h5").train.copy_features
    for key in (np.s_[:, 7:30], np.s_[1, 7:30:3], np.s_[::2, 499], np.s_[0, -1, 2], np.s_[:, 30:7], np.s_[1:],
                np.s_[2], np.s_[:, ::-1], np.s_[..., 0], np.s_[:, [3, 5]], np.s_[:, -20:-10, 1:3]):
        part = array[key]
        assert np.array_equal(part, copies[key]) and part.dtype == np.float32
    assert array[:, 7:30].base is None or array[:, 7:30].base.size == 3 * 23 * 4


def test_labels_alone_tell_the_classes_once(tmp_path: Path) -> None:
    labels = np.arange(300) % 7
    ood.write(tmp_path / "labels.h5", train={"features": np.eye(300, 4, dtype=np.float32), "labels": labels})
    train = ood.open(tmp_path / "labels.h5").train
    assert train.labels[10:20].tolist() == labels[10:20].tolist()
    assert train.features[299].tolist() == [0, 0, 0, 0] and train.labels[299] == 299 % 7


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """As os.fsdecode makes them; in texts for people a replacement character."""
    rows = np.eye(6, 3, dtype=np.float32)
    path = tmp_path / os.fsdecode(b"caf\xe9.h5")
    ood.write(path, id_test={"logits": rows}, ood={"abcdefgh": {"logits": rows}}, model="mnopqrst")
    content = path.read_bytes()
    assert content.count(b"abcdefgh") and content.count(b"mnopqrst")
    path.write_bytes(content.replace(b"abcdefgh", b"abcd\xffgh\xfe").replace(b"mnopqrst", b"mnop\xffst\xfe"))
    dataset = ood.open(path)
    assert dataset.path == str(path) and dataset.model == "mnop\ufffdst\ufffd"
    (name, split), = dataset.ood.items()
    assert os.fsencode(name) == b"abcd\xffgh\xfe" and np.array_equal(split.logits, rows)
    report = ood.evaluate(dataset, "energy")
    assert "abcd\ufffdgh" in report.to_table() and "abcd\ufffdgh" in report.to_csv()
    assert report.rows[0]["dataset"] == "abcd\ufffdgh\ufffd"
