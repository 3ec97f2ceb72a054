"""Start MONAI Label with the GLADE app on a folder of studies: `python -m apps.label --studies FOLDER`.

It listens on loopback by default. The studies are only read; uploads, results and Label's own working files lie in a
private folder that is removed when the server stops.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from .absent import stand_in
from .access import NAMES

BUNDLE = Path(__file__).resolve().parents[2]


def main() -> None:
    """Command line.

    Raises:
        SystemExit: 2 if there is no such folder; else when the server ends.
    """
    parser = argparse.ArgumentParser(prog="python -m apps.label", description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=Path, required=True, help="folder of NIfTI files and DICOM series")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--name", action="append", default=[], help="another name by which clients address the server")
    parser.add_argument("--deadline", type=float, default=600.0, help="seconds after which a request is given up")
    options = parser.parse_args()
    if not options.studies.is_dir():
        sys.stderr.write(f"{options.studies}: no such folder: give --studies (make label STUDIES=folder)\n")
        raise SystemExit(2)
    if not options.deadline > 0:
        sys.stderr.write("--deadline must be more than 0 seconds\n")
        raise SystemExit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # so that the private folder goes
    with tempfile.TemporaryDirectory(prefix="glade_label_") as work:
        serve(options, Path(work))


def serve(options: argparse.Namespace, work: Path) -> None:
    """Run the server until it is stopped.

    Args:
        options: studies, host, port, name, deadline.
        work: private folder.
    """
    for part in ("app", "tmp"):
        (work / part).mkdir()
    (work / "app" / "main.py").write_text("from apps.label.main import GladeApp\n")
    tempfile.tempdir = os.environ["TMPDIR"] = str(work / "tmp")
    os.environ |= {
        "MONAI_LABEL_RELOAD_APP_LIB": "false",  # the bundle's modules stay as they were imported
        "MONAI_LABEL_SESSIONS": "false",  # they would lie in the home directory
        NAMES: "\n".join([options.host, *options.name]),
    }
    if str(BUNDLE) not in sys.path:
        sys.path.insert(0, str(BUNDLE))
    stand_in()
    from monailabel.main import Main  # reads the settings above when it is imported

    from .stopping import end_with

    end_with(work)
    arguments = ["start_server", "--app", str(work / "app"), "--studies", str(options.studies)]
    arguments += ["--conf", "deadline_s", str(options.deadline)]
    arguments += ["--host", options.host, "--port", str(options.port), "--uvicorn_app", "apps.label.server:app"]
    sys.argv = ["monailabel", *arguments]
    Main().run()


if __name__ == "__main__":
    main()
