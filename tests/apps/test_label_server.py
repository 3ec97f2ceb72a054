"""`make label`'s server over HTTP: the bundle's own bytes come back; bad requests get a status and leave nothing."""

import contextlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from scripts.dicom.synthetic_series import write_series

from ..conftest import ROOT
from ..data.thick_scans import oblique_affine, voxels, write_scan

PYTHON = ROOT / ".venv-label" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / ".venv-label" / "installed").exists(), reason="needs MONAI Label: `make label` sets it up"
    ),
]


class Server:
    """A running server of the bundle in root; `ask` gives (HTTP status, body)."""

    def __init__(self, studies: Path, work: Path, root: Path = ROOT, *options: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.studies, self.work, self.log = studies, work, work / "log.txt"
        command = [PYTHON, "-m", "apps.label", "--studies", str(studies), "--port", str(self.port), *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=root, env={**os.environ, "TMPDIR": str(work)}, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.ask("/info/", None)
            except OSError:
                time.sleep(0.3)
            else:
                return
        pytest.fail(f"the server does not start: {self.log.read_text()[-2000:]}")

    def ask(self, path: str, params: dict | str | None, file: bytes | None = None) -> tuple[int, bytes]:
        """GET without params, else POST of params and file as a form."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if params is not None:
            boundary = uuid.uuid4().hex
            request.data = form(params, file, boundary)
            request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        try:
            with urllib.request.urlopen(request, timeout=300) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0
        assert {path.name for path in self.work.iterdir()} == {"log.txt"}  # the private folder is gone

    def leftovers(self) -> list[str]:
        """Volumes in the server's private folder; what was sent is removed just after the client has it."""
        end = time.monotonic() + 5
        while (found := [path.name for path in self.work.rglob("*.nii.gz")]) and time.monotonic() < end:
            time.sleep(0.1)
        return found


def form(params: dict | str, file: bytes | None, boundary: str) -> bytes:
    """The body of a request; params as an object, or as the text that is sent."""
    text = params if isinstance(params, str) else json.dumps(params)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{text}\r\n'
    body = head.encode()
    if file is not None:
        disposition = 'Content-Disposition: form-data; name="file"; filename="scan.nii.gz"\r\n\r\n'
        body += f"--{boundary}\r\n{disposition}".encode() + file + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def own_results(scans: Path, out: Path, root: Path = ROOT) -> dict[str, bytes]:
    """Files that the bundle itself makes: {name of the case: bytes of its result}, others as <case>_<volume>."""
    command = [PYTHON if root != ROOT else sys.executable, "-m", "monai.bundle", "run", "inference"]
    command += ["--config_file", "configs/inference.yaml", "--dataset_dir", scans, "--output_dir", out]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    files = out.glob("*/*.nii.gz")
    return {file.name.removesuffix(".nii.gz").removesuffix("_glade"): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    studies, work = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("work")
    write_scan(studies / "scan.nii.gz", voxels((24, 20, 8)))
    write_series(studies / "series", voxels((24, 20, 8)), oblique_affine((1, 1.25, 4)))
    write_series(studies / "ct", voxels((24, 20, 8)), oblique_affine(), header={"Modality": "CT"}, seed=1)
    write_series(studies / "gap", voxels((24, 20, 8)), oblique_affine(), seed=2)
    sorted((studies / "gap").iterdir())[3].unlink()
    before = sorted(studies.rglob("*"))
    running = Server(studies, work)
    running.wait()
    yield running
    running.stop()
    assert sorted(studies.rglob("*")) == before


@pytest.fixture(scope="module")
def own(server, tmp_path_factory):
    scans = tmp_path_factory.mktemp("scans")
    shutil.copy(server.studies / "scan.nii.gz", scans)
    shutil.copytree(server.studies / "series", scans / "series")
    return own_results(scans, tmp_path_factory.mktemp("out"))


def test_a_nifti_and_a_dicom_study_come_back_as_the_bundle_writes_them(server, own):
    nifti, dicom = own["scan"], own["001_T2_TSE"]
    assert server.ask("/infer/glade?image=scan&output=image", {}) == (200, nifti)
    assert server.ask("/infer/glade?image=series&output=image", {}) == (200, dicom)
    uploaded = (server.studies / "scan.nii.gz").read_bytes()
    assert server.ask("/infer/glade?output=image", {}, uploaded) == (200, nifti)
    for volume in ("added_detail", "uncertainty"):
        found = server.ask("/infer/glade?image=scan&output=image", {"volume": volume})
        assert found == (200, own[f"scan_{volume}"])
    status, text = server.ask("/infer/glade?image=scan&output=json", {"settings": {"slice_thickness_mm": 3.5}})
    row = json.loads(text)
    assert status == 200
    assert row["protocol"]["slice_thickness_mm"] == 3.5
    assert row["output"]["spacing_mm"] == pytest.approx([1, 1, 1])
    assert row["residual_over_noise"] < 1


def test_the_app_has_no_pipeline_of_its_own(server, tmp_path):
    """A new key and new steps in inference.yaml reach the response."""
    root = tmp_path / "bundle"
    for folder in ("apps", "configs", "models", "scripts"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = root / "configs" / "inference.yaml"
    config = yaml.safe_load(file.read_text())
    config["offset"] = 1000.0
    step = {"_target_": "ShiftIntensityd", "offset": "@offset"}
    config["preprocessing"]["transforms"].insert(1, {**step, "keys": "image"})
    config["postprocessing"]["transforms"].insert(0, {**step, "keys": "pred", "offset": 0.1})
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    (tmp_path / "work").mkdir()
    changed = Server(server.studies, tmp_path / "work", root)
    own = own_results(server.studies / "scan.nii.gz", tmp_path / "out", root)["scan"]
    changed.wait()
    response = changed.ask("/infer/glade?image=scan&output=image", {})
    changed.stop()
    assert response == (200, own)
    assert own != server.ask("/infer/glade?image=scan&output=image", {})[1]


def test_two_requests_at_once_are_both_answered_each_as_it_asked(server, own):
    def ask(name, settings):
        return server.ask(f"/infer/glade?image={name}&output=image", {"settings": settings})

    asked = [("scan", {}), ("series", {}), ("scan", {"detail": 0}), ("scan", {}), ("nowhere", {})]
    with ThreadPoolExecutor(len(asked)) as pool:
        responses = list(pool.map(lambda one: ask(*one), asked))
    assert [status for status, _ in responses] == [200, 200, 200, 200, 404]
    assert responses[0] == responses[3] == (200, own["scan"])
    assert responses[1] == (200, own["001_T2_TSE"])
    assert responses[2][1] != own["scan"]


@pytest.mark.parametrize(
    ("path", "params", "file", "status", "line"),
    [
        ("/infer/gladys?image=scan", {}, None, 404, "no model is called 'gladys': there is glade"),
        ("/infer/?image=scan", {}, None, 404, "Not Found"),
        ("/infer/glade", {}, None, 500, "Neither Image nor File"),
        ("/infer/glade?image=nowhere", {}, None, 404, "no study is called 'nowhere'"),
        ("/infer/glade?image=/etc/hostname", {}, None, 404, "no study is called"),
        ("/infer/glade?image=ct", {}, None, 422, "refused: .*CT"),
        ("/infer/glade?image=gap", {}, None, 422, "refused: .*1 slice missing"),
        ("/infer/glade?image=scan", {"settings": {"detail": -1}}, None, 422, "refused: detail must be"),
        ("/infer/glade?image=scan", {"settings": {"weights_path": "x"}}, None, 422, "no request may set weights_path"),
        ("/infer/glade?image=scan", {"volume": "all"}, None, 422, "volume must be one of glade, added_detail"),
        ("/infer/glade?image=scan", {"volume": ["glade"]}, None, 422, "volume must be one of glade, added_detail"),
        ("/infer/glade?image=scan", {"detail": 1}, None, 422, "params may hold settings, .*not detail: write"),
        ("/infer/glade?image=scan", {"device": "$1/0"}, None, 422, "params may hold settings, .*not device$"),
        ("/infer/glade?image=scan&output=label", {}, None, 422, "output: .*image"),
        ("/infer/glade?image=scan&output=dicom_seg", {}, None, 422, "output must be image, json or all"),
        ("/infer/glade?session_id=1", {}, None, 500, "failed: "),
        ("/infer/glade", [1], b"a scan", 400, "params must be a JSON object"),
        ("/infer/glade?image=scan", {"settings": {"views": [[[[0]]]]}}, None, 400, "params nests deeper than 4"),
        ("/infer/glade?image=scan", {"settings": {"views": {"a": {"b": {}}}}}, None, 400, "params nests deeper than 4"),
        ("/infer/glade", {}, b"no scan", 422, "refused: .*header cannot be read"),
        ("/infer/glade", {}, b"", 422, "refused: .*header cannot be read"),
    ],
)
def test_a_bad_request_is_answered_in_one_line(server, path, params, file, status, line):
    found, body = server.ask(path, params, file)
    assert found == status
    detail = json.loads(body)["detail"]
    assert "\n" not in detail
    assert re.search(line, detail), detail
    assert server.leftovers() == []


def test_a_client_that_goes_away_leaves_nothing(server, own):
    body = form({}, b"x" * 3_000_000, "edge")
    start = "POST /infer/glade?image=scan HTTP/1.1\r\nHost: localhost\r\n"
    head = f"{start}Content-Length: {len(body)}\r\n"
    upload = head.encode() + b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n" + body
    for sent in (
        upload[:2_000_000],
        b"POST /infer/glade?image=scan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(sent)
        assert server.ask("/infer/glade?image=scan&output=image", {}) == (200, own["scan"])
        assert server.leftovers() == []


@pytest.mark.parametrize("size", [None, 8_000, 3_000_000], ids=["result", "upload", "upload while it is received"])
def test_a_full_disk_is_answered_and_leaves_nothing(server, own, size):
    upload = None if size is None else b"x" * size
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, hard))  # no file can grow further
    try:
        status, body = server.ask("/infer/glade?image=scan&output=image", {}, upload)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert (status, json.loads(body)["detail"]) == (507, "the server's disk is full (File too large): nothing was kept")
    assert server.leftovers() == []
    assert server.ask("/infer/glade?image=scan&output=image", {}) == (200, own["scan"])


@pytest.mark.parametrize(
    "path", ["/model/glade", "/datastore?id=scan", "/datastore/image?id=scan", "/reload", "/train/"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_nothing_else_of_label_is_served(server, method, path):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=60)


@pytest.mark.parametrize(
    "params", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "9" * 10_000, "null", '"x"', "{"]
)
def test_params_that_are_no_object_of_settings_are_a_bad_request(server, params):
    found, body = server.ask("/infer/glade?image=scan", params)
    assert found == 400
    assert "params" in json.loads(body)["detail"]
    assert server.leftovers() == []


def send(server, path, **headers):
    """(HTTP status, headers, body) of a POST or, of /info/, a GET with other headers than urllib's own."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", method="GET" if "info" in path else "POST"
    )
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value.format(port=server.port))
    try:
        with urllib.request.urlopen(request, timeout=300) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("path", ["/info/", "/infer/glade?image=scan&output=image"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "elsewhere.example"},
        {"Host": "elsewhere.example:{port}"},
        {"Host": "127.0.0.1.elsewhere.example:{port}"},
        {"Host": "localhost.elsewhere.example"},
        {"Host": "192.0.2.1:{port}"},
        {"Host": "0.0.0.0:{port}"},
        {"Host": "127.0.0.1@elsewhere.example"},
        {"Host": "[2001:db8::1]:{port}"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "elsewhere.example:{port}", "Origin": "http://elsewhere.example:{port}"},  # DNS rebinding
    ],
)
def test_a_page_of_another_site_may_neither_read_nor_compute(server, path, headers):
    status, replied, body = send(server, path, **headers)
    assert status == 403
    assert "access-control-allow-origin" not in {name.lower() for name in replied}
    assert "\n" not in json.loads(body)["detail"]
    assert server.leftovers() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:{port}"},
        {"Host": "LOCALHOST.:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:{port}"},
        {"Host": "localhost:{port}", "Origin": "http://localhost:{port}", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_the_server_answers_to_its_own_names(server, headers):
    status, replied, _ = send(server, "/info/", **headers)
    assert status == 200
    assert "access-control-allow-origin" not in {name.lower() for name in replied}


def test_a_request_has_a_deadline_and_the_server_stops_within_seconds(tmp_path):
    """Both while a volume is computed for minutes; meanwhile others get their responses."""
    write_scan(tmp_path / "studies" / "scan.nii.gz", voxels((24, 20, 8)))
    write_scan(tmp_path / "studies" / "large.nii.gz", voxels((320, 320, 40)))
    (tmp_path / "work").mkdir()
    server = Server(tmp_path / "studies", tmp_path / "work", ROOT, "--deadline", "20", "--name", "glade.example")
    server.wait()
    assert send(server, "/info/", Host="glade.example:{port}")[0] == 200
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(server.ask, "/infer/glade?image=large&output=image", {})
        time.sleep(3)
        asked = time.monotonic()
        assert server.ask("/info/", None)[0] == 200
        assert time.monotonic() - asked < 10
        status, body = large.result()
        assert (status, json.loads(body)["detail"][:20]) == (503, "not done within 20 s")
        assert time.monotonic() - begun < 60
        assert server.leftovers() == []
        assert server.ask("/infer/glade?image=scan&output=image", {})[0] == 200
        large = pool.submit(server.ask, "/infer/glade?image=large&output=image", {})
        time.sleep(5)
        server.stop()  # waits for a minute at most; the volume takes several, and five seconds are for the step in hand
        with contextlib.suppress(OSError):  # the connection may end before a response
            assert large.result()[0] == 503
