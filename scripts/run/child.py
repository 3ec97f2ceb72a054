"""A workflow in a process of its own that ends when the process that started it ends, even by a kill.

The child's standard input is a pipe that nobody writes to; the system closes it when the parent is gone.
"""

import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any


def run_child(command: Sequence[str], **options: Any) -> int:
    """Run a Python module as a child and return its exit code.

    Args:
        command: as one would type it: the interpreter, "-m", the module, its arguments.
        options: of `subprocess.run`; `cwd` must be the folder of the bundle.
    """
    reading, writing = os.pipe()  # not inherited by other processes
    try:
        bound = [command[0], "-m", "scripts.run.child", *command[2:]]
        return subprocess.run(bound, stdin=reading, check=False, **options).returncode
    finally:
        os.close(reading)
        os.close(writing)


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the pipe is closed; sys.stdin would be locked when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
