"""A save that is killed leaves the old model file or the new one, whole, whenever that happens."""

import os
import random
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest

OOD = os.environ["OOD_COMMAND"]
KILLS = 50


def write_features(path, rows, dim):
    random_rows = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for split in "train", "id_val":
            n = rows if split == "train" else 50
            file[f"{split}/features"] = random_rows.normal(size=(n, dim)).astype("f4")


def fit(features, model, k):
    return subprocess.Popen([OOD, "fit", features, "--detector", "knn", "-p", f"k={k}", "--out", model],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def partial_files(folder):
    return list(folder.glob("*.partial"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A feature file, and the two model files of some 20 MB that can be made of it."""
    folder = tmp_path_factory.mktemp("models")
    features = folder / "features.h5"
    write_features(features, 20_000, 256)
    whole = {}
    for k in 3, 4:
        model = folder / f"k{k}.ood"
        process = fit(features, model, k)
        assert process.wait() == 0, process.stderr.read()
        whole[k] = model.read_bytes()
        assert len(whole[k]) > 20_000 * 256 * 4
    assert whole[3] != whole[4]
    return features, whole


def test_kill_save(models, tmp_path):
    features, whole = models
    model = tmp_path / "model.ood"
    model.write_bytes(whole[3])
    current, during, replaced = 3, 0, 0
    longest = 0.05  # seconds to wait; follows how fast the machine is, so that kills hit all of the save and its end
    chance = random.Random(0)
    for _ in range(KILLS):
        other = 7 - current
        before = set(partial_files(tmp_path))
        process = fit(features, model, other)
        # the save begins when its temporary file appears
        while process.poll() is None and not set(partial_files(tmp_path)) - before:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
        got = model.read_bytes()
        assert got in (whole[current], whole[other])
        left = set(partial_files(tmp_path)) - before
        if left:  # neither finished nor removed: killed within the save
            assert got == whole[current] and len(left) == 1
            during += 1
            if during > 1:  # each kill leaves a file behind; one is enough to see that it does no harm
                left.pop().unlink()
            longest *= 1.3
        else:
            assert got == whole[other]
            replaced += 1
            current = other
            longest /= 1.3
    print(f"{KILLS} kills: {during} during the save, {replaced} after it")
    assert len(partial_files(tmp_path)) == 1
    assert during >= KILLS // 5 and replaced >= KILLS // 10

    # the next save does not stumble over what was left
    process = fit(features, model, 7 - current)
    assert process.wait() == 0, process.stderr.read()
    assert model.read_bytes() == whole[7 - current]
    assert len(partial_files(tmp_path)) == 1
