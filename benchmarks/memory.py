"""Peak memory of a process."""

from pathlib import Path


def peak_bytes() -> int:
    """Return the peak resident memory of this process since its program began (Linux).

    `resource.getrusage` would count the process that started it too: its peak is kept when a program is executed.
    """
    return int(Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) * 1024
