#!/usr/bin/env python3
"""Makes the first inputs of the fuzzers, corpus/<fuzzer>/seed-*: what each operation of file_script.cc does, once, and
plain files. Inputs of other names came from the fuzzers: what they found, kept after it was mended.

    /usr/bin/python3 tests/fuzz/make_corpus.py
"""

import pathlib

import h5py
import numpy as np

CORPUS = pathlib.Path(__file__).parent / "corpus"
MODELS = pathlib.Path(__file__).parent.parent / "compatibility" / "v1"


def write(fuzzer, name, data):
    folder = CORPUS / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data)


def feature_file(path, **options):
    with h5py.File(path, "w", **options) as file:
        file.attrs["model"] = np.bytes_("net")
        file["head/weight"], file["head/bias"] = np.ones((3, 4), "f4"), np.zeros(3, "f4")
        for split in "train", "ood/x":
            file[f"{split}/features"] = np.arange(24, dtype="f4").reshape(6, 4)
            file[f"{split}/labels"] = np.arange(6) % 3
        file["ood/x"].attrs["kind"] = np.bytes_("near")


def main():
    plain = CORPUS / "plain.h5"
    CORPUS.mkdir(exist_ok=True)
    for version in "earliest", "latest":
        feature_file(plain, libver=version)
        write("feature_file", f"plain-{version}", b"\0" + plain.read_bytes())
    plain.unlink()

    # a script: the operation, then what it asks for: see Edit::run()
    for operation in range(13):
        script = bytes([operation, 3, 1, 5, 2, 2, 9, 0, 1])
        write("feature_file", f"operation-{operation:02}", b"\1" + script)
    # the same on a few detectors, sealed
    for operation, detector in enumerate((11, 17, 21, 38, 54, 55)):
        script = bytes([operation, 3, 1, 5, 2, 2, 9, 0, 1])
        write("model_file", f"operation-{operation}", bytes([4, detector]) + script)
    for detector in 0, 11:
        write("model_file", f"patch-{detector}", bytes([5, detector, 8, 1, 255]))
    for name in "msp", "max_cosine":
        if (MODELS / f"{name}.ood").exists():
            write("model_file", f"plain-{name}", b"\0" + (MODELS / f"{name}.ood").read_bytes())


if __name__ == "__main__":
    main()
