"""Post-hoc out-of-distribution detection.

libood takes what a trained network already gave for each sample (logits, penultimate features, the
last layer's weights), from arrays or from an HDF5 feature file, and says how in-distribution each
sample is. A higher score means more in-distribution, everywhere.

>>> import numpy as np, ood
>>> random = np.random.default_rng(0)
>>> labels = np.arange(200) % 4
>>> centers = random.normal(size=(4, 8))
>>> features = (centers[labels] + 0.1 * random.normal(size=(200, 8))).astype(np.float32)
>>> detector = ood.ConjNorm(p=2.5).fit(features=features, labels=labels)
>>> outliers = random.normal(size=(50, 8)).astype(np.float32)
>>> ood.metrics.auroc(detector.score(features), detector.score(outliers)) > 0.95
True
"""

from . import metrics
from ._gpu import DeviceInfo, devices
from ._ood import __version__
from .dataset import Array, Dataset, Split, Writer, open, write
from .detector import Calibration, Detector, Diagnostics, FitWarning, NotFittedError, RowsUsed, load
from .detectors import *
from .detectors import DETECTORS
from .detectors import __all__ as _detectors
from .report import Report, evaluate

__all__ = ["DETECTORS", "Array", "Calibration", "Dataset", "Detector", "DeviceInfo", "Diagnostics",
           "FitWarning", "NotFittedError", "Report", "RowsUsed", "Split", "Writer", "__version__", "devices", "evaluate",
           "load", "metrics", "open", "write", *_detectors]
