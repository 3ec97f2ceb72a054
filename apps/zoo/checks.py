"""The MONAI model zoo's checks of a bundle (its ci/verify_bundle.py and CONTRIBUTING.md), one by one.

A check returns what it saw, in some words, or raises.
"""

import contextlib
import importlib.metadata
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import onnxruntime
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import load_net_with_metadata

from scripts.data.coding import WHOLE
from scripts.data.saving import write_nifti
from scripts.phantom.files import make_scan, on_grid, write_scan

from .exports import (
    BUNDLE,
    CONFIG,
    INPUT,
    METADATA,
    metadata,
    random_input,
    shipped_generator,
    to_onnx,
    to_torchscript,
)
from .metadata_schema import SCHEMA

NAME = "mri_thick_slice_superresolution"  # the bundle's folder in the zoo: data, modality, task, in lower case
FOLDERS = ("configs", "docs", "models", "scripts")  # what goes to the zoo
FILES = ("LICENSE", "configs/metadata.json", "configs/inference.json", "configs/logging.conf", "models/model.pt")
FILES += ("docs/README.md", "docs/data_license.txt")
SECTIONS = ("Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance", "System Configuration")
SECTIONS += ("Limitations", "Citation", "References")
ROOT = "$find_bundle()"  # the value of bundle_root: it is found from any folder
INFERENCE_KEYS = ("bundle_root", "device", "network_def", "inferer", "output_dir")
TRAINING_KEYS = ("bundle_root", "device", "dataset_dir", "output_dir", "train::trainer::max_epochs", "val_interval")
TRAINING_KEYS += ("train::dataset::data", "train::handlers")
TRAINING_KEYS += ("validate::evaluator", "validate::handlers", "validate::dataset::data")
KEYS = {"inference": INFERENCE_KEYS, "train": TRAINING_KEYS}
PERSONAL = re.compile(r"/home/|/Users/|/root/|[A-Z]:\\")
LARGEST_MB = 25  # a single file; larger ones go into large_files.yml
PLANES = ((1, 64, 64), (3, 51, 80), (2, 30, 45))  # planes, rows, columns
ONNX_TOLERANCE = 1e-3  # of the intensity scale
TORCH_TOLERANCE = 1e-5  # the same; rounding alone


class Missed(Exception):
    """A check that the zoo would not pass."""


def files() -> str:
    """Every file the zoo names is there."""
    _none([name for name in FILES if not (BUNDLE / name).is_file()], "absent")
    return f"{len(FILES)} files"


def sizes() -> str:
    """No file over the limit: large_files.yml is not needed."""
    megabytes = {
        str(path.relative_to(BUNDLE)): path.stat().st_size / 1e6
        for folder in FOLDERS
        for path in (BUNDLE / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    _none([name for name, size in megabytes.items() if size > LARGEST_MB], "to be named in large_files.yml")
    largest = max(megabytes, key=megabytes.get)
    return f"{len(megabytes)} files, the largest {largest}, {megabytes[largest]:.1f} of {LARGEST_MB} MB"


def naming() -> str:
    """A display name; each config finds the bundle's folder itself, and holds nobody's own path."""
    if not metadata().get("name"):
        raise Missed("no `name` in metadata.json")
    configs = {path.name: path.read_text(encoding="utf-8") for path in (BUNDLE / "configs").iterdir() if path.is_file()}
    _none([name for name, text in configs.items() if PERSONAL.search(text)], "personal paths in")
    _none([f"{kind}.yaml" for kind in KEYS if _config(kind)["bundle_root"] != ROOT], f"bundle_root is not {ROOT} in")
    return metadata()["name"]


def readme() -> str:
    """The sections of the zoo's template, and a word about the exports."""
    text = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    headings = [line.strip("#* ") for line in text.splitlines() if line.startswith("#")]
    _none([section for section in SECTIONS if section not in headings], "sections absent")
    _none([word for word in ("TorchScript", "TensorRT") if word not in text], "it does not say whether it supports")
    return f"{len(SECTIONS)} sections"


def version() -> str:
    """The version is in the changelog, supported apps have theirs, and each package is pinned as it is installed."""
    found = metadata()
    if found["version"] not in found["changelog"]:
        raise Missed(f"{found['version']} is not in the changelog")
    apps, pins = found["supported_apps"], dict(found["required_packages_version"])
    _none([app for app, of in apps.items() if not isinstance(of, str)], "supported apps without a version")
    pins |= {"monai": found["monai_version"], "torch": found["pytorch_version"], "numpy": found["numpy_version"]}
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pins}  # torch: 2.13.0+cpu
    _none([name for name in pins if installed[name] != pins[name]], "another version is installed of")
    return f"{found['version']}, {len(pins)} packages pinned as installed, {len(apps)} supported apps named"


def metadata_format() -> str:
    """verify_metadata, by the rules of the schema that metadata.json names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schema.json"
        path.write_text(json.dumps(SCHEMA), encoding="utf-8")  # MONAI downloads none where one lies
        monai.bundle.verify_metadata(meta_file=str(METADATA), filepath=str(path))
    return f"{metadata()['schema'].rpartition('/')[2]}, its rules as kept here"


def keys() -> str:
    """Keys that the zoo and other MONAI programs look for."""
    for kind, wanted in KEYS.items():
        _none([key for key in wanted if key not in _config(kind)], f"{kind}.yaml lacks")
    return ", ".join(f"{len(wanted)} of {kind}.yaml" for kind, wanted in KEYS.items())


def json_equals_yaml() -> str:
    """configs/inference.json says what the YAML says."""
    if ConfigParser.load_config_file(str(CONFIG.with_suffix(".json"))) != ConfigParser.load_config_file(str(CONFIG)):
        raise Missed("run `make json`")
    return "the same"


def properties_of_inference() -> str:
    """check_properties of the inference workflow."""
    return _check_properties(CONFIG.with_suffix(".json"), "inference", "thick0.nii.gz")


def properties_of_training() -> str:
    """check_properties of the training workflow."""
    return _check_properties(CONFIG.with_name("train.yaml"), "train", "")


def network_in_out() -> str:
    """verify_net_in_out: the network takes and gives what the metadata says."""
    multiples = (8, 31)
    for n in multiples:
        monai.bundle.verify_net_in_out("network_def", str(METADATA), str(CONFIG), device="cpu", n=n)
    shape = " x ".join(metadata()["network_data_format"]["inputs"][INPUT]["spatial_shape"])
    return f"planes of {shape}, n = {' and '.join(map(str, multiples))}"


def torchscript() -> str:
    """ckpt_export, and the loaded file gives the eager network's output."""
    eager = shipped_generator()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ts"
        to_torchscript(eager, path)
        exported, found, extra = load_net_with_metadata(path, more_extra_files=("inference.json",))
    if found["version"] != metadata()["version"] or not extra["inference.json"]:
        raise Missed("metadata or config is not inside the file")
    if set(exported.state_dict()) != set(eager.folded().state_dict()):
        raise Missed("the demodulation is not folded")
    return f"folded, {_same_prediction(exported, TORCH_TOLERANCE)}"


def onnx() -> str:
    """An ONNX export gives the eager network's output under onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        to_onnx(shipped_generator(), path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return _same_prediction(lambda x: torch.from_numpy(session.run(None, {INPUT: x.numpy()})[0]), ONNX_TOLERANCE)


def load_by_name() -> str:
    """monai.bundle.load and create_workflow from JSON, in a folder of bundles."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / NAME
        for part in ("configs", "models"):
            shutil.copytree(BUNDLE / part, bundle / part)
        network = monai.bundle.load(NAME, bundle_dir=folder, workflow_type="inference", source="monaihosting")
        workflow = monai.bundle.create_workflow(
            config_file=str(bundle / "configs" / "inference.json"), workflow_type="inference", logging_file=False
        )
        workflow.network_def.load_state_dict(network.state_dict())
    return f"as {NAME}, {_same_prediction(network.eval(), TORCH_TOLERANCE, sharpness=0)}"


CHECKS: dict[str, Callable[[], str]] = {
    "necessary and preferred files": files,
    "size of files": sizes,
    "naming": naming,
    "sections of docs/README.md": readme,
    "version, packages, supported apps": version,
    "verify_metadata": metadata_format,
    "keys of the configs": keys,
    "inference.json equals inference.yaml": json_equals_yaml,
    "check_properties, inference": properties_of_inference,
    "check_properties, training": properties_of_training,
    "verify_net_in_out": network_in_out,
    "TorchScript, exported and loaded": torchscript,
    "ONNX under onnxruntime": onnx,
    "bundle.load, create_workflow": load_by_name,
}


def _none(offenders: list[str], complaint: str) -> None:
    if offenders:
        raise Missed(f"{complaint}: {', '.join(offenders)}")


def _config(kind: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / f"{kind}.yaml")
    return parser


def _check_properties(config: Path, kind: str, scans: str) -> str:
    """Check the workflows on phantoms, thick and near-isotropic; without scans they cannot be built."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(BUNDLE):  # train.yaml looks from there
        folder = Path(name)
        for seed in (0, 1):
            scan = make_scan((40, 36, 32), spacing_mm=5, slice_spacing_mm=20, profile="rect", seed=seed)
            write_scan(scan, folder, f"thick{seed}")
            thin = folder / "scans" / f"isotropic{seed}.nii.gz"
            write_nifti(on_grid(scan.truth, scan.truth_grid), thin, WHOLE)
        workflow = ConfigWorkflow(
            str(config),
            meta_file=str(METADATA),
            logging_file=str(CONFIG.with_name("logging.conf")),
            workflow_type=kind,
            bundle_root=str(BUNDLE),
            dataset_dir=str(folder / "scans" / scans),
            output_dir=str(folder / "out"),
            device="$torch.device('cpu')",
        )
        workflow.initialize()
        _none(workflow.check_properties(), "missing")
    return f"{len(workflow.properties)} properties, none missing"


def _same_prediction(
    other: Callable[[torch.Tensor], torch.Tensor], tolerance: float, sharpness: float | None = None
) -> str:
    """Compare with the shipped generator at that sharpness, run eagerly."""
    eager = shipped_generator(sharpness)
    with torch.no_grad():
        some = [random_input(eager, *size) for size in PLANES]
        worst = max(float((other(x) - eager(x)).abs().max()) for x in some)
    if not worst <= tolerance:
        raise Missed(f"differs from the eager network by {worst:.1e}, more than {tolerance:.0e}")
    return f"differs from the eager network by {worst:.1e} at most"
