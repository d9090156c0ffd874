"""The command as a user meets it: what it prints where, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Callable

import h5py
import numpy as np
import pytest

from conftest import SOURCE, Run, write_small

LIST = (SOURCE / "include/ood/detectors.h").read_text().split("using Detectors =")[1].split(";")[0]


def name_of(detector: str) -> str:
    """RelativeMahalanobis -> relative_mahalanobis, as the header of each says."""
    header = next(path for path in (SOURCE / "include/ood/detectors").glob("*.h")
                  if f"class {detector} " in path.read_text())
    return header.stem


DETECTORS = [name_of(name.strip()) for name in LIST.split("TypeList<")[1].split(">")[0].split(",")]
# What write_small has nothing for, or what has no use for its features of either sign
NOT_IN_SMALL = ("no layers in /", "no copies/", "no /ood_val set", "no copies",
                "expected 0 or more")

# The fit of corp takes seconds with its default, and minutes in a build with sanitizers.
QUICK = ("-p", "corp.dimension=64")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("command") / "small.h5")


def test_help_names_every_command(ood: Run) -> None:
    for arguments in (["--help"], ["eval", "--help"]):
        result = ood(*arguments)
        assert result.returncode == 0
        assert result.stderr == ""
    assert all(name in ood("--help").stdout for name in ("eval", "report", "fit", "score", "monitor", "gate",
                                                          "inspect", "list", "info"))


def test_version_is_the_project_version(ood: Run) -> None:
    cmake = (SOURCE / "CMakeLists.txt").read_text()
    version = cmake.split("project(ood VERSION ")[1].split()[0]
    assert ood("--version").stdout.strip() == version
    assert f"version: {version}" in ood("info").stdout


def test_list_shows_detectors_and_options(ood: Run) -> None:
    lines = ood("list").stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == DETECTORS
    assert any(line.strip().startswith("knn.k = 50") for line in lines)
    presets = [line.split(": ")[0].strip() for line in lines if ".preset = " in line]
    assert {"msp.preset = mcm", "mahalanobis.preset = mahalanobis++",
            "conjnorm.preset = imagenet-resnet50"} <= set(presets)


def test_info_says_what_is_in_use(ood: Run) -> None:
    text = ood("info").stdout
    for key in ("simd: ", "products: oneDNN ", "threads: ", "hdf5: 1.", "cuda: "):
        assert f"\n{key}" in f"\n{text}"


def test_forced_simd_target_is_taken(ood: Run) -> None:
    first = ood("info").stdout.split("this machine has ")[1].split(";")[0].split(", ")
    for target in first:
        assert f"simd: {target} " in ood("info", env={"OOD_SIMD": target}).stdout
    result = ood("info", env={"OOD_SIMD": "NOPE"})
    assert result.returncode == 2
    assert result.stderr == f"ood: OOD_SIMD has NOPE, expected one of {', '.join(first)}\n"


def test_eval_table(ood: Run, small: Path) -> None:
    result = ood("eval", small, *QUICK)
    assert result.returncode == 0
    left_out = []
    for line in result.stderr.splitlines():  # no progress line where stderr is no terminal
        kind, detector, *_ = line.split(": ")
        if kind == "warning":
            assert detector == "fusion"  # there is no id_val
        else:
            assert kind == "left out" and any(why in line for why in NOT_IN_SMALL), line
            left_out.append(detector)
    assert result.stdout.startswith(f"{small}: net, in-distribution clusters, 30 test rows")
    header = result.stdout.splitlines()[2].split()
    assert header == ["AUROC", "%", "far", "near", "near", "mean", "far", "mean",
                      "fit", "s", "score", "s"]
    for name in DETECTORS:
        assert (f"\n{name} " in result.stdout) == (name not in left_out)
    assert {"msp", "knn", "conjnorm", "vim"}.isdisjoint(left_out)


def test_eval_json_rows(evaluate: Callable[..., dict], small: Path) -> None:
    report = evaluate(small, *QUICK, "-p", "knn.k=7", "-p", "conjnorm.partition=per_class")
    left_out = [left["detector"] for left in report["left_out"]]
    assert [row["detector"] for row in report["rows"][::2]] == [
        name for name in DETECTORS if name not in left_out]
    knn = next(row for row in report["rows"] if row["detector"] == "knn")
    assert knn["options"].items() >= {"k": 7, "normalize": True}.items()
    assert (knn["n_id"], knn["n_ood"]) == (30, 25)
    assert {mean["kind"] for mean in report["means"]} == {"near", "far"}
    assert all(timing["scored_rows"] == 80 for timing in report["timings"])


def test_one_detector_needs_no_prefix(evaluate: Callable[..., dict], small: Path) -> None:
    rows = evaluate(small, "-d", "knn", "-p", "k=5", "-p", "normalize=false")["rows"]
    assert rows[0]["options"].items() >= {"k": 5, "normalize": False}.items()
    assert evaluate(small, "-d", "knn", "-p", "knn.k=5", "-p", "normalize=false")["rows"] == rows


def test_preset_sets_options_and_gives_way(evaluate: Callable[..., dict], small: Path) -> None:
    def options(*arguments: str) -> dict:
        return evaluate(small, "-d", "conjnorm", *arguments)["rows"][0]["options"]

    default, preset = options(), options("-p", "preset=cifar10")
    assert preset == {**default, "p": 2.2, "temperature": 0.05, "partition": "pooled"}
    assert options("-p", "p=2", "-p", "preset=cifar10") == {**preset, "p": 2.0}
    assert options("-p", "conjnorm.preset=imagenet-resnet50")["partition"] == "per_class"


def test_eval_verbose_shows_fits(ood: Run, small: Path) -> None:
    quiet = ood("eval", small, *QUICK).stdout
    assert "Fit: " not in quiet
    for form, start in (("table", "class "), ("markdown", "| class |")):
        text = ood("eval", small, *QUICK, "-v", "-f", form).stdout
        fits = [line.split()[1] for line in text.splitlines() if line.startswith("Fit: ")]
        assert {"mahalanobis", "gaussian_density", "conjnorm", "vim"} <= set(fits)
        assert "msp" not in fits
        assert f"\n{start}" in text and "\nbackground_rank = 6\n" in text


def test_eval_json_has_fits(evaluate: Callable[..., dict], small: Path) -> None:
    fits = {fit["detector"]: fit for fit in evaluate(small, *QUICK)["fits"]}
    assert fits["mahalanobis"]["values"]["rank"] == 6
    assert fits["conjnorm"]["per_class"]["rows"] == [27, 27, 26]
    assert fits["conjnorm"]["warnings"] == []


def test_eval_csv_and_markdown(ood: Run, small: Path) -> None:
    text = ood("eval", small, "-f", "csv", "-d", "msp,gen").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["detector"], row["dataset"]) for row in rows] == [
        ("msp", "far"), ("msp", "near"), ("gen", "far"), ("gen", "near")]
    assert rows[2]["options"] == "gamma=0.1;top_m=100"
    assert "| msp " in ood("eval", small, *QUICK, "-f", "markdown").stdout


def test_eval_is_the_same_on_any_threads(evaluate: Callable[..., dict], small: Path) -> None:
    rows = [evaluate(small, *QUICK, "--threads", n)["rows"] for n in ("1", "2", "7")]
    assert rows[0] == rows[1] == rows[2]


def test_eval_writes_a_file(ood: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = ood("eval", small, *QUICK, "-f", "json", "-o", out)
    assert (result.returncode, result.stdout) == (0, "")
    assert json.loads(out.read_text())["model"] == "net"
    assert os.listdir(tmp_path) == ["report.json"]
    for bad in (tmp_path / "missing" / "report.txt", tmp_path):
        result = ood("eval", small, "-d", "msp", "-o", bad)
        assert (result.returncode, result.stderr) == (2, f"ood: {bad}: cannot be written\n")
    assert os.listdir(tmp_path) == ["report.json"]
    before = small.read_bytes()
    assert ood("eval", small, "-o", small).returncode == 2
    assert small.read_bytes() == before
    link = tmp_path / "link"
    link.symlink_to(out)
    assert ood("eval", small, *QUICK, "-f", "csv", "-o", link).returncode == 0
    assert link.is_symlink() and out.read_text().startswith("detector,")


def test_a_folder_that_is_not_there_is_known_before_any_work(ood: Run, tmp_path: Path) -> None:
    """Also before the feature file is opened, which is not there either."""
    for command in ("eval", "report"):
        out = tmp_path / "none" / "report.html"
        result = ood(command, tmp_path / "none.h5", "--out", out)
        assert (result.returncode, result.stderr) == (2, f"ood: {out}: cannot be written\n")


def test_eval_progress_on_a_terminal(small: Path, ood: Run) -> None:
    try:
        master, slave = pty.openpty()
    except OSError:
        pytest.skip("there is no pseudo-terminal here")
    with subprocess.Popen([os.environ["OOD_COMMAND"], "eval", str(small), "-d", "msp,knn"],
                          stderr=slave, stdout=subprocess.DEVNULL) as process:
        process.wait(timeout=60)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "fit knn" in shown and "score far" in shown
    assert shown.endswith("\r\x1b[K")  # the line is wiped at the end


def test_detectors_without_their_inputs_are_left_out(ood: Run, tmp_path: Path) -> None:
    def only_logits(file: h5py.File) -> None:
        del file["train"]
        for name in ("id_test", "ood/near", "ood/far"):
            del file[name]["features"]

    path = write_small(tmp_path / "logits.h5", only_logits)
    result = ood("eval", path, *QUICK)
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    for name in ("mahalanobis", "ssd", "knn", "conjnorm", "vim"):
        assert f"left out: {name}: no /train" in lines
    for line in lines:
        assert line.startswith("left out: ") and ": no " in line, line
    asked = ood("eval", path, "-d", "knn")  # asked for by name: an error
    assert (asked.returncode, asked.stdout, asked.stderr) == (2, "", "ood: knn: no /train\n")


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "A subcommand is required"),
    (["nonsense"], "unknown command nonsense, expected one of eval, report, fit, score, monitor, gate, inspect, synth, list, info"),
    (["eval"], "file is required"),
    (["eval", "FILE", "--format", "xml"], "xml"),
    (["eval", "FILE", "--threads", "-1"], "-1"),
    (["eval", "FILE", "--threads", "5000"], "Value 5000 not in range 0 to 1024"),
    (["eval", "FILE", "--device", "gpu"], "device has gpu, expected cpu, cuda or cuda:<index>"),
    (["eval", "FILE", "-d", "knnn"], "unknown detector knnn, expected one of msp, "),
    (["eval", "FILE", "-d", "knn,knn"], "--detectors has knn twice, expected each once"),
    (["eval", "FILE", "-p", "knn"], "-p has knn, expected <detector>.<option>=<value>"),
    (["eval", "FILE", "-d", "knn,msp", "-p", "k=5"], "-p has k=5, expected <detector>.<option>="),
    (["eval", "FILE", "-d", "knn", "-p", "k"], "-p has k, expected <detector>.<option>=<value>"),
    (["eval", "FILE", "-d", "conjnorm", "-p", "preset=x"],
     "conjnorm: preset has x, expected one of cifar10, cifar100, imagenet-resnet50"),
    (["eval", "FILE", "-d", "knn", "-p", "preset=x"],
     "knn: preset has x, expected one of pytorch_ood"),
    (["eval", "FILE", "-d", "ssd", "-p", "preset=x"],
     "ssd: unknown option preset, expected one of ridge"),
    (["eval", "FILE", "-p", "knn.kk=3"], "knn: unknown option kk, expected one of k, normalize"),
    (["eval", "FILE", "-p", "knn.k=0"], "knn: option k has 0, expected a whole number, 1 or more"),
    (["eval", "FILE", "-p", "gen.gamma=x"], "gen: option gamma has x, expected a number, 1e-06 or more"),
    (["eval", "FILE", "-d", "msp", "-p", "knn.k=3"], "-p sets an option of knn, expected one of msp"),
    (["eval", "FILE", "-d", "knn", "-p", "knn.k=81"], "expected k = 81 or more"),
    (["inspect", "no.h5"], "no.h5"),
    (["eval", "/"], "/"),
])
def test_bad_usage_is_one_line_and_exit_2(ood: Run, small: Path, arguments: list[str],
                                          message: str) -> None:
    result = ood(*[str(small) if a == "FILE" else a for a in arguments])
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("ood: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def cuda_devices(ood: Run) -> list[str]:
    """Those that `ood info` lists, "cuda:0: NVIDIA ..."."""
    return [line for line in ood("info").stdout.splitlines() if line.startswith("cuda:") and line[5:6].isdigit()]


def test_info_lists_devices_or_says_why_there_is_none(ood: Run) -> None:
    text = ood("info").stdout
    devices = cuda_devices(ood)
    if "cuda: not built\n" in text:
        assert devices == []
    else:
        assert f"{len(devices)} device" in text or "no device: " in text
    for line in devices:
        assert "compute capability " in line and "GiB of memory" in line


def test_cpu_is_a_device(ood: Run, small: Path) -> None:
    plain = ood("eval", small, "-d", "energy", "-f", "csv")
    named = ood("eval", small, "-d", "energy", "-f", "csv", "--device", "cpu")
    assert (named.returncode, named.stdout) == (0, plain.stdout)


def test_a_device_that_is_not_there_is_one_line_and_exit_2(ood: Run, small: Path, tmp_path: Path) -> None:
    """Before anything is fitted, written or read from standard input."""
    model = tmp_path / "model.ood"
    assert ood("fit", small, "-d", "energy", "--out", model).returncode == 0
    out = tmp_path / "out"
    missing = f"cuda:{len(cuda_devices(ood))}"
    for arguments in (["eval", small], ["report", small, "--out", out], ["score", model, "-", "--dim", 3],
                      ["score", model, small, "-s", "id_test", "--out", out], ["monitor", model, small, "-s", "id_test"],
                      ["fit", small, "-d", "energy", "--out", out], ["gate", small, "-r", "energy.far.auroc > 0"],
                      ["eval", small, "-d", "knn", "--search", "k=1,2"]):
        result = ood(*arguments, "--device", missing)
        assert (result.returncode, result.stdout) == (2, ""), arguments
        assert result.stderr.startswith("ood: ") and result.stderr.count("\n") == 1
        if "cuda: not built\n" in ood("info").stdout:
            assert result.stderr == ("ood: device: this libood was built without CUDA, expected one that was "
                                     "configured with -DOOD_CUDA=ON\n")
        assert not out.exists()


def spoil(name: str, row: int, column: int, value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][row, column] = value

    return change


def replace(name: str, array: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = array

    return change


def remove(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


@pytest.mark.parametrize(("change", "message"), [
    (spoil("train/features", 41, 5, np.nan),
     ": /train/features has NaN at row 41, column 5, expected finite numbers"),
    (spoil("ood/far/logits", 24, 2, np.inf),
     ": /ood/far/logits has infinity at row 24, column 2, expected finite numbers"),
    (replace("train/labels", np.r_[np.arange(79) % 3, 3]),
     ": /train/labels has 3 at row 79, expected [0, 3)"),
    (replace("train/labels", np.r_[-1, np.arange(79) % 3]),
     ": /train/labels has -1 at row 0, expected [0, 3)"),
    (remove("id_test"), "/id_test"),
    (remove("ood"), "/ood"),
    (replace("ood/far/features", np.zeros((25, 5), np.float32)), "5 columns, expected 6"),
    (replace("ood/far/features", np.zeros((25, 6), "S3")), "/ood/far/features"),
    (replace("ood/far/features", np.zeros(25, np.float32)), "/ood/far/features"),
    (replace("ood/far/logits", np.zeros((24, 3), np.float32)), "24 rows"),
    (replace("head/bias", np.zeros(4, np.float32)), "/head/bias"),
])
def test_bad_files_are_one_line_and_exit_2(ood: Run, tmp_path: Path, change: Callable,
                                           message: str) -> None:
    path = write_small(tmp_path / "bad.h5", change)
    result = ood("eval", path, *QUICK)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert str(path) in result.stderr
    assert message in result.stderr


def test_files_that_are_no_feature_files(ood: Run, small: Path, tmp_path: Path) -> None:
    contents = {"empty": b"", "text": b"hello\n", "cut": small.read_bytes()[:20_000]}
    for name, content in contents.items():
        path = tmp_path / f"{name}.h5"
        path.write_bytes(content)
        for command in ("eval", "inspect"):
            result = ood(command, path)
            assert result.returncode == 2, name
            assert result.stderr.startswith(f"ood: {path}")
            assert result.stderr.count("\n") == 1


def test_inspect_shows_arrays_and_what_is_missing(ood: Run, tmp_path: Path) -> None:
    path = write_small(tmp_path / "unlabelled.h5", remove("train/labels"))
    result = ood("inspect", path)
    assert result.returncode == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("/train/features"))
    assert "80 x 6" in line and "float32" in line and "1920 bytes" in line
    assert "knn: can be evaluated" in result.stdout
    assert "conjnorm: no labels in /train" in result.stdout
    report = json.loads(ood("inspect", path, "-f", "json").stdout)
    assert (report["dim"], report["classes"]) == (6, 3)
    assert {"detector": "conjnorm", "missing": "no labels in /train"} in report["detectors"]
    assert next(a for a in report["arrays"] if a["path"] == "/head/weight")["shape"] == [3, 6]


def test_closed_output_is_an_error_not_a_crash(small: Path, ood: Run) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([os.environ["OOD_COMMAND"], "eval", small, "-d", "msp"],
                                stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert result.stderr == "ood: cannot write to standard output\n"
