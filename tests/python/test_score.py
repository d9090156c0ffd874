"""`ood score`: what it writes, against scores and p-values computed here; and how it fails."""

from __future__ import annotations

import csv
import io
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable

import h5py
import numpy as np
import pytest

from conftest import Run, write_small, write_split

SPLITS = ["train", "id_val", "id_test", "ood/far", "ood/near"]


def add_id_val(file: h5py.File) -> None:
    random = np.random.RandomState(1)
    labels = np.arange(57) % 3
    weight, bias = file["head/weight"][:], file["head/bias"][:]
    features = (random.normal(size=(57, 6)) + weight[labels]).astype(np.float32)
    write_split(file.create_group("id_val"), features=features,
                logits=features @ weight.T + bias, labels=labels)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("score") / "small.h5", add_id_val)


@pytest.fixture(scope="module")
def fit(ood: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("models")

    def run(detector: str, *arguments: str) -> Path:
        path = folder / ("-".join([detector, *arguments]).replace("/", "_") + ".ood")
        if not path.exists():
            result = ood("fit", small, "-d", detector, "--out", path, *arguments)
            assert result.returncode == 0, result.stderr
        return path

    return run


def p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return (1 + (calibration[None, :] <= scores[:, None]).sum(axis=1)) / (len(calibration) + 1)


def adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's, by the definition."""
    order = np.sort(p)
    steps = np.minimum(len(p) * order / np.arange(1, len(p) + 1), 1)
    return np.array([min(steps[np.searchsorted(order, one, "right") - 1:]) for one in p])


def read(path: Path) -> np.ndarray:
    """What was written, as one structured array."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            names = [name for name in ("score", "p_value", "accepted") if name in file]
            assert sorted(file) == sorted(names)
            return np.rec.fromarrays([file[name][:] for name in names], names=names)
    return read_csv(path.read_text())


def read_csv(text: str) -> np.ndarray:
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row.pop("row")) for row in rows] == list(range(len(rows)))
    types = {"score": "f4", "p_value": "f8", "accepted": "u1"}
    return np.rec.fromarrays([np.array([row[name] for row in rows]).astype(types[name])
                              for name in rows[0]], names=list(rows[0]))


@pytest.mark.parametrize("name", ["scores.csv", "scores.npy", "scores.h5"])
@pytest.mark.parametrize("detector", ["energy", "mahalanobis"])
def test_every_format(ood: Run, small: Path, fit: Callable[..., Path], score_rows, tmp_path: Path,
                      name: str, detector: str) -> None:
    model, out = fit(detector), tmp_path / name
    calibration = score_rows(small, ["id_val"], detector)
    for split, flag, level in (("id_test", "--alpha", 0.2), ("ood/near", None, 0.05),
                               ("ood/near", "--fdr", 0.3)):
        decide = [flag, str(level)] if flag else []  # alpha of the model without one
        result = ood("score", model, small, "--split", split, "--out", out, *decide)
        assert (result.returncode, result.stdout) == (0, ""), result.stderr
        scores = score_rows(small, [split], detector)
        p = p_values(calibration, scores)
        accepted = (adjusted(p) if flag == "--fdr" else p) > level
        found = read(out)
        assert found["score"].tobytes() == scores.tobytes()
        assert np.array_equal(found["p_value"], p)
        assert np.array_equal(found["accepted"].astype(bool), accepted)
        rejected = int((~accepted).sum())
        assert rejected > 0 or split == "id_test"
        what = "false discovery rate" if flag == "--fdr" else "alpha"
        assert result.stderr == (f"{small}: /{split}: {len(p)} rows, {rejected} rejected "
                                 f"({100 * rejected / len(p):.4g} %) at {what} {level}\n")
    assert os.listdir(tmp_path) == [name]  # nothing is left of what it was before it was whole


def test_types_and_attributes(ood: Run, small: Path, fit: Callable[..., Path],
                              tmp_path: Path) -> None:
    model = fit("energy")
    for name in ("a.npy", "a.h5", "b.hdf5"):
        fdr = ["--fdr", "0.25"] if name == "b.hdf5" else []
        assert ood("score", model, small, "-s", "id_test", "--out", tmp_path / name,
                   *fdr).returncode == 0
    assert np.load(tmp_path / "a.npy").dtype == np.dtype(
        [("score", "<f4"), ("p_value", "<f8"), ("accepted", "?")])
    with h5py.File(tmp_path / "a.h5") as file:
        assert {name: file[name].dtype for name in file} == {
            "score": np.float32, "p_value": np.float64, "accepted": np.uint8}
        sums = subprocess.run(["xxh128sum", model], capture_output=True, text=True, check=True)
        assert dict(file.attrs) == {
            "model": str(model), "model_fingerprint": sums.stdout.split()[0], "detector": "energy",
            "rows": f"{small}: /id_test", "alpha": 0.05}
    with h5py.File(tmp_path / "b.hdf5") as file:
        assert file.attrs["fdr"] == 0.25 and "alpha" not in file.attrs


def test_csv_goes_to_standard_output(ood: Run, small: Path, fit: Callable[..., Path],
                                     tmp_path: Path) -> None:
    model, out = fit("energy"), tmp_path / "scores.csv"
    assert ood("score", model, small, "-s", "ood/far", "--out", out).returncode == 0
    result = ood("score", model, small, "-s", "ood/far")
    assert result.stdout == out.read_text()
    assert result.stderr.count("\n") == 1
    assert ood("score", model, small, "-s", "ood/far", "--out", "/dev/stdout").stdout == result.stdout


def test_by_class(ood: Run, small: Path, fit: Callable[..., Path], score_rows,
                  tmp_path: Path) -> None:
    out = tmp_path / "scores.npy"
    result = ood("score", fit("mahalanobis", "--by-class", "--alpha", "0.1"), small, "-s", "id_test",
                 "--out", out)
    assert result.returncode == 0, result.stderr
    calibration = score_rows(small, ["id_val"], "mahalanobis")
    scores = score_rows(small, ["id_test"], "mahalanobis")
    with h5py.File(small) as file:
        known = file["id_val/logits"][:].argmax(axis=1)
        predicted = file["id_test/logits"][:].argmax(axis=1)
    want = np.array([p_values(calibration[known == c], scores[i:i + 1])[0]
                     for i, c in enumerate(predicted)])
    found = np.load(out)
    assert np.array_equal(found["p_value"], want)
    assert np.array_equal(found["accepted"], want > 0.1)


def test_without_calibration_there_are_scores_alone(ood: Run, small: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.ood"
    made = subprocess.run([os.environ["OOD_SCORE_ROWS"], small, "id_test", "energy",
                           f"--model={model}"], capture_output=True)
    assert made.returncode == 0, made.stderr
    scores = np.frombuffer(made.stdout, "<f4")
    for name in ("a.csv", "a.npy", "a.h5"):
        result = ood("score", model, small, "-s", "id_test", "--out", tmp_path / name)
        assert result.returncode == 0
        assert result.stderr == (
            f"{small}: /id_test: 30 rows, no p-values: the model is not calibrated\n")
        found = read(tmp_path / name)
        assert found.dtype.names == ("score",)
        assert found["score"].tobytes() == scores.tobytes()
    for arguments in (["score", "--alpha", "0.1"], ["score", "--fdr", "0.1"], ["monitor"]):
        fails(ood(arguments[0], model, small, "-s", "id_test", *arguments[1:]),
              "model.ood has no calibration, expected one")
    with h5py.File(small) as file:
        rows = file["id_test/logits"][:].astype("<f4").tobytes()
    # energy takes rows of any width: only --dim says which
    fails(run_with_input("score", model, "-", data=rows),
          "--dim has nothing, expected the number of logits of a row, which the model lacks")
    result = run_with_input("score", model, "-", "--dim", "3", data=rows)
    assert result.stdout.decode() == (tmp_path / "a.csv").read_text()
    for dim in ("0", "-1", "1000000000000"):
        fails(run_with_input("score", model, "-", "--dim", dim, data=rows), "--dim")


def test_progress_is_for_a_terminal(small: Path, fit: Callable[..., Path], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    result = subprocess.run(
        [os.environ["OOD_COMMAND"], "score", fit("energy"), small, "-s", "id_test", "--out",
         tmp_path / "a.csv"], stderr=theirs)
    os.close(theirs)
    written = b""
    with open(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(10_000):  # a read may give less than there is
                written += part
        except OSError:  # EIO: all of it was read, and nobody holds the other end
            pass
    text = written.decode()
    assert result.returncode == 0
    assert f"100 %  score {small}: /id_test" in text
    assert text.rstrip().endswith("alpha 0.05")


def test_a_link_stays_one(ood: Run, small: Path, fit: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a.csv", "a.npy", "a.h5"):
        (tmp_path / f"real_{name}").write_text("before")
        (tmp_path / name).symlink_to(f"real_{name}")
        assert ood("score", fit("energy"), small, "-s", "id_test", "--out",
                   tmp_path / name).returncode == 0
        assert (tmp_path / name).is_symlink()
        assert len(read(tmp_path / name)) == 30


def run_with_input(*arguments: str | Path, data: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([os.environ["OOD_COMMAND"], *map(str, arguments)], input=data,
                          capture_output=True, timeout=300)


@pytest.mark.parametrize("detector, field", [("mahalanobis", "features"), ("energy", "logits")])
def test_standard_input_is_as_the_file(ood: Run, small: Path, fit: Callable[..., Path],
                                       tmp_path: Path, detector: str, field: str) -> None:
    model = fit(detector)
    with h5py.File(small) as file:
        rows = file["id_test"][field][:].astype("<f4")
    want = ood("score", model, small, "-s", "id_test").stdout
    for dim in ([], ["--dim", str(rows.shape[1])]):
        result = run_with_input("score", model, "-", *dim, data=rows.tobytes())
        assert result.returncode == 0, result.stderr
        assert result.stdout.decode() == want
        assert result.stderr.startswith(b"standard input: 30 rows, ")
    for name in ("a.csv", "a.npy", "a.h5"):  # the number of rows is known in the end
        out = tmp_path / name
        result = run_with_input("score", model, "-", "--out", out, data=rows.tobytes())
        assert result.returncode == 0, result.stderr
        assert np.array_equal(read(out)["score"], read_csv(want)["score"])
    result = run_with_input("score", model, "-", "--fdr", "0.9", data=rows.tobytes())
    assert np.array_equal(read_csv(result.stdout.decode())["p_value"], read_csv(want)["p_value"])


def test_results_go_out_as_rows_come_in(ood: Run, small: Path, fit: Callable[..., Path]) -> None:
    with h5py.File(small) as file:
        rows = file["id_test/logits"][:].astype("<f4")
    want = ood("score", fit("energy"), small, "-s", "id_test").stdout.splitlines()
    with subprocess.Popen([os.environ["OOD_COMMAND"], "score", str(fit("energy")), "-"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        process.stdin.write(rows[0].tobytes() + rows[1].tobytes()[:5])  # a row and a piece
        lines = io.BufferedReader(process.stdout)
        assert [lines.readline().decode().strip() for _ in range(2)] == want[:2]
        process.stdin.write(rows[1].tobytes()[5:])
        assert lines.readline().decode().strip() == want[2]
        process.stdin.close()
        assert lines.read() == b""
    assert process.returncode == 0


def fails(result: "subprocess.CompletedProcess", message: str) -> None:
    """One line on stderr, and status 2."""
    stderr = result.stderr if isinstance(result.stderr, str) else result.stderr.decode()
    assert result.returncode == 2, stderr
    assert stderr.count("\n") == 1 and stderr.startswith("ood: "), stderr
    assert message in stderr, stderr


def test_bad_rows_of_standard_input(small: Path, fit: Callable[..., Path], ood: Run,
                                    tmp_path: Path) -> None:
    model = fit("mahalanobis")
    rows = np.zeros((5, 6), "<f4")
    for data, message in (
            (rows.tobytes()[:-7], "standard input has 17 bytes of row 4, expected 24 (6 float32)"),
            (b"", "standard input has no rows, expected 1 or more")):
        fails(run_with_input("score", model, "-", data=data), message)
    for value, word in ((np.nan, "NaN"), (-np.inf, "infinity")):
        bad = rows.copy()
        bad[3, 2] = value
        out = tmp_path / "scores.npy"
        fails(run_with_input("score", model, "-", "--out", out, data=bad.tobytes()),
              f"standard input has {word} at row 3, column 2, expected finite numbers")
        assert os.listdir(tmp_path) == []


def test_bad_input(ood: Run, small: Path, fit: Callable[..., Path], tmp_path: Path) -> None:
    model, both = fit("energy"), fit("mahalanobis", "--by-class", "--alpha", "0.1")
    narrow = write_small(tmp_path / "narrow.h5")
    with h5py.File(tmp_path / "narrow.h5", "a") as file:
        for split in ("train", "id_test", "ood/near", "ood/far"):
            logits = file[split]["logits"][:, :2]
            del file[split]["logits"], file[split]["features"]
            file[split]["logits"] = logits
            if "labels" in file[split]:
                del file[split]["labels"]
        del file["head"]
    logits = tmp_path / "logits.h5"
    with h5py.File(small) as file, h5py.File(logits, "w") as copy:
        copy["id_test/logits"] = file["id_test/logits"][:]
    text = tmp_path / "text.ood"
    text.write_text("no model")
    for arguments, message in (
            (["score"], "model is required"),
            (["score", model], "data is required"),
            (["score", tmp_path / "none.ood", small, "-s", "id_test"], "none.ood: no such file"),
            (["score", text, small, "-s", "id_test"], "text.ood"),
            (["score", model, tmp_path / "none.h5", "-s", "id_test"], "none.h5: no such file"),
            (["score", model, small], "--split has nothing, expected one of train, id_val, id_test, "
                                      "ood/far, ood/near"),
            (["score", model, small, "-s", "ood/nere"], "ood/nere"),
            (["score", fit("mahalanobis"), logits, "--out", tmp_path / "a.csv"],
             "id_test has no features"),
            (["score", model, narrow, "-s", "id_test"],
             "id_test has 2 classes, expected 3 as the model was made with"),
            (["score", model, small, "-s", "id_test", "--alpha", "1"],
             "--alpha has 1, expected a share in (0, 1)"),
            (["score", model, small, "-s", "id_test", "--fdr", "0"],
             "--fdr has 0, expected a share in (0, 1)"),
            (["score", model, small, "-s", "id_test", "--fdr", "0.1", "--alpha", "0.1"], "excludes"),
            (["score", model, small, "-s", "id_test", "--dim", "3"],
             "--dim has 3, expected none with a feature file"),
            (["score", model, "-", "-s", "id_test"], "--split has id_test, expected none"),
            (["score", model, "-", "--dim", "5"],
             "--dim has 5, expected 3 logits as the model was made with"),
            (["score", both, "-"], "standard input has one array, features or logits, expected a "
                                   "feature file for a model that needs features, logits"),
            (["score", model, small, "-s", "id_test", "--out", tmp_path / "scores.txt"],
             "expected a name that ends in .csv, .npy or .h5"),
            (["score", model, small, "-s", "id_test", "--out", small],
             "expected another file"),
            (["score", model, small, "-s", "id_test", "--out", model],
             "expected another file"),
            (["score", model, small, "-s", "id_test", "--out", tmp_path / "no" / "scores.csv"],
             "cannot be written"),
            (["score", model, small, "-s", "id_test", "--out", tmp_path], "is a directory"),
            (["score", model, small, "-s", "id_test", "--threads", "-1"], "--threads")):
        before = sorted(os.listdir(tmp_path))
        fails(ood(*arguments), message)
        assert sorted(os.listdir(tmp_path)) == before


def test_full_disk(ood: Run, small: Path, fit: Callable[..., Path], tmp_path: Path) -> None:
    model = fit("energy")
    fails(ood("score", model, small, "-s", "id_test", "--out", "/dev/full"),
          "/dev/full: cannot be written: No space left on device")
    with open("/dev/full", "w") as full:
        result = subprocess.run([os.environ["OOD_COMMAND"], "score", model, small, "-s", "id_test"],
                                stdout=full, stderr=subprocess.PIPE, text=True)
    fails(result, "standard output: cannot be written: No space left on device")


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.h5"])
def test_disk_that_gets_full(ood: Run, fit: Callable[..., Path], tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["id_test/logits"] = np.random.RandomState(0).normal(size=(200_000, 3)).astype("f4")
    (tmp_path / "disk").mkdir()
    script = """mount -t tmpfs -o size=512k none "$4" || exit 77
        echo what was there > "$4/$3"
        "$0" score "$1" "$2" --out "$4/$3"
        status=$?
        ls -A "$4"; cat "$4/$3"; exit $status"""
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script,
         os.environ["OOD_COMMAND"], fit("energy"), tmp_path / "many.h5", name, tmp_path / "disk"],
        capture_output=True, text=True)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("no small disk can be mounted here")
    fails(result, f"{name}: cannot be written: No space left on device")
    assert result.stdout == f"{name}\nwhat was there\n"


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.h5"])
def test_killed(fit: Callable[..., Path], tmp_path: Path, name: str, ood: Run) -> None:
    out = tmp_path / name
    out.write_text("what was there")
    with subprocess.Popen([os.environ["OOD_COMMAND"], "score", str(fit("energy")), "-", "--out", str(out)],
                          stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(np.zeros((1000, 3), "<f4").tobytes())
        process.stdin.flush()
        while len(os.listdir(tmp_path)) == 1:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert out.read_text() == "what was there"


def test_one_split_needs_no_name(ood: Run, fit: Callable[..., Path], small: Path,
                                 tmp_path: Path) -> None:
    one = tmp_path / "one.h5"
    with h5py.File(small) as file, h5py.File(one, "w") as copy:
        copy["id_test/logits"] = file["id_test/logits"][:]
    result = ood("score", fit("energy"), one)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ood("score", fit("energy"), small, "-s", "id_test").stdout
