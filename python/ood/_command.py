"""The command `ood`, as the wheel installs it: the same code as the C++ program's."""

from __future__ import annotations

import os
import signal
import sys

from . import _ood


def main() -> int:
    # Control-C and a closed pipe end the command at once, as they end a program without Python.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return _ood.run_command([os.fsencode(argument) for argument in sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
