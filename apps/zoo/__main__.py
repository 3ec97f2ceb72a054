"""The model zoo's own checks of this bundle, each with its outcome: `make check`, or `python -m apps.zoo`."""

import logging
import sys
import warnings

from scripts.geometry.errors import causes, one_line

from .checks import CHECKS

WIDTH = max(map(len, CHECKS))  # of the first column


def main() -> int:
    """Run every check, print a line for each, return 1 if any failed."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # what a check saw is the line it returns
    failed = 0
    for name, check in CHECKS.items():
        try:
            outcome, seen = "passed", check()
        except Exception as error:  # noqa: BLE001 - one failing check must not stop the others
            root = causes(error)[-1]
            outcome, seen, failed = "FAILED", f"{type(root).__name__}: {root}", failed + 1
        sys.stdout.write(f"{name:<{WIDTH}} {outcome} {one_line(seen)}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(CHECKS)} checks, {failed} failed\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
