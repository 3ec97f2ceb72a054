"""Fit, calibrate and measure the uncertainty on simulated thick scans, whose true volumes are known.

    python -m benchmarks.uncertainty fit SCANS [--cache FOLDER]
    python -m benchmarks.uncertainty measure SCANS [--cache FOLDER]
    python -m benchmarks.uncertainty picture SCANS [--cache FOLDER]

`fit` is to be run whenever the weights change. It simulates thick slices from the scans under `fit` in
benchmarks/uncertainty.yaml, predicts them by configs/inference.yaml, and writes models/uncertainty.json, for results of
one prediction, of two and of all. Each person is then left out of fit and calibration in turn, which gives the tables
`uncertainty_held_back` and `uncertainty_held_back_one` (of single predictions) of docs/uncertainty.md. `measure` uses
the model as it is on the scans under `measure` (the benchmark). Predictions in the cache are used again; they belong to
the weights named in it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import nibabel
import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy import ndimage

from scripts.data.coding import coding_upwards
from scripts.data.discovery import find_nifti
from scripts.data.saving import write_nifti
from scripts.data.transforms import DataConsistencyd, FuseViewsd, grid_of, smoothed, with_grid
from scripts.data.uncertainty import Uncertaintyd, features_of, read_model
from scripts.evaluation.calibration import ErrorSample, fit_scale, half_widths
from scripts.evaluation.simulation import SimulatedProtocol, simulate
from scripts.geometry.checksums import sha256_of
from scripts.geometry.files import write_json
from scripts.geometry.grid import Grid
from scripts.learning.weights import default_detail_gain
from scripts.metrics.mask import body_mask
from scripts.metrics.uncertainty import coverage, rank_correlation
from scripts.physics.uncertainty import NOISE, Scale, UncertaintyModel

from .pictures import IMAGES, Panel, draw_panels
from .tables import DOCS, ROOT, TABLES, with_table, write_rows

CONFIG = ROOT / "configs" / "inference.yaml"
PLAN = Path(__file__).with_suffix(".yaml")
MODEL = ROOT / "models" / "uncertainty.json"
PAGE = DOCS.with_name("uncertainty.md")
CUBES = 1.3  # voxels longer than this times the shortest edge are interpolated to cubes
VOXELS = 8000  # of each simulated scan that the fit sees
TARGETS = (0.8, 0.97)  # coverage of every scan, factor and profile
LESION_MM = 7.0  # diameter of the lesion of the picture
OUTSIDE, TARGET_OUTSIDE = 7.0, 0.85  # factors above are outside the trained range
Row = dict[str, str | float]


@dataclass(frozen=True)
class Simulation:
    """A scan of the plan with one protocol.

    Attributes:
        name: of the scan.
        settings: of the scan in the plan.
        protocol: of the simulated acquisition.
        folder: of the scans.
        crop: voxels along the two in-plane axes and the through-plane axis.
    """

    name: str
    settings: Mapping
    protocol: SimulatedProtocol
    folder: Path
    crop: Sequence[int]

    @property
    def label(self) -> str:
        """Name of the simulated scan."""
        return f"{self.name}_{self.protocol.label}"

    @property
    def person(self) -> str:
        """Whose scan it is."""
        return str(self.settings.get("person", self.name))

    @cached_property
    def truth(self) -> tuple[np.ndarray, Grid]:
        """The crop of the scan, cubic voxels, the axis of the thick slices last."""
        image = nibabel.as_closest_canonical(nibabel.load(self.folder / f"{self.settings['file']}.nii.gz"))
        axis = self.settings["axis"]
        order = [*(a for a in range(3) if a != axis), axis]
        values = np.asarray(image.dataobj, dtype=np.float32).transpose(order)
        spacing = np.array(image.header.get_zooms()[:3], dtype=np.float64)[order]
        ratios = np.where(spacing / spacing.min() > CUBES, spacing / spacing.min(), 1.0)
        if ratios.max() > 1:
            values = ndimage.zoom(values, ratios, order=3, mode="nearest", grid_mode=True)
        parts = []
        for size, wanted, share in zip(values.shape, self.crop, self.settings["centre"], strict=True):
            start = min(max(0, round(size * share) - wanted // 2), max(0, size - wanted))
            parts.append(slice(start, min(size, start + wanted)))
        part = np.ascontiguousarray(values[tuple(parts)])
        return part, Grid(part.shape, np.diag([*[float(spacing.min())] * 3, 1.0]))


class Workflow:
    """The parts of configs/inference.yaml, with predictions kept in a folder.

    Args:
        cache: folder; None: nothing is kept.
        sharpness: of the weights; None: the default.
        settings: others of the inference; predictions made with them are not to be kept in the same folder.
    """

    def __init__(
        self, cache: Path | None, sharpness: float | None = None, settings: Mapping[str, object] | None = None
    ):
        self.parser = ConfigParser(ConfigParser.load_config_file(CONFIG))
        self.parser["bundle_root"], self.parser["inferer::progress"] = str(ROOT), False
        if sharpness is not None:
            self.parser["sharpness"] = sharpness
        settings = dict(settings or {})
        self.parser.update(settings)
        self.detail_gain = settings.get("detail_gain")
        self.parser.parse()
        get = self.parser.get_parsed_content
        self.sharpness = float(get("sharpness"))
        self.weights = [sha256_of(get(key)) for key in ("weights_path", "sharp_weights_path")]
        self.trained_range = get("trained_range")
        kept = f"{self.weights[0][:8]}_{self.weights[1][:8]}_{self.sharpness:g}"
        self.cache = None if cache is None else cache / kept

    def prepared(self, simulation: Simulation) -> tuple[dict, torch.Tensor, np.ndarray]:
        """Return the data item with all predictions under "pred", the truth (X, Y, Z) on its scale, and the body."""
        values, grid = simulation.truth
        (slices, thick), (truth, _) = simulate(values, grid, 2, simulation.protocol, f"held_{simulation.label}")
        with tempfile.TemporaryDirectory() as folder:
            scan = MetaTensor(torch.from_numpy(slices)[None], affine=torch.from_numpy(np.array(thick.affine)))
            write_nifti(scan, Path(folder) / "scan.nii.gz")
            sidecar = simulation.protocol.sidecar(float(thick.spacing_mm[2]))
            (Path(folder) / "scan.json").write_text(json.dumps(sidecar), encoding="utf-8")
            (case,) = find_nifti(folder)
            data = self.parser.get_parsed_content("preprocessing")(case.as_item())
        image, intensity = data["image"], data["image"].meta["intensity"]
        detail = self._detail(simulation, image)
        data["pred"] = with_grid(image.as_tensor() + detail, grid_of(image), image.meta)
        return data, torch.from_numpy((truth - intensity.offset) / intensity.scale), body_mask(truth)

    def _detail(self, simulation: Simulation, image: MetaTensor) -> torch.Tensor:
        """What each prediction adds to the interpolated slices, (V, X, Y, Z)."""
        crop = "x".join(map(str, simulation.crop))
        file = None if self.cache is None else self.cache / f"{simulation.label}_{crop}.npy"
        if file is not None and file.is_file():
            return torch.from_numpy(np.load(file).astype(np.float32))
        get = self.parser.get_parsed_content
        detail = (get("inferer")(image[None], get("network"))[0] - image).as_tensor()
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, detail.numpy().astype(np.float16))
        return detail

    def result(self, data: Mapping, count: int) -> dict:
        """Return the data item after the projection, from the first so many of the predictions."""
        get = self.parser.get_parsed_content
        gain = self.detail_gain or default_detail_gain(self.sharpness, count)
        steps = [
            FuseViewsd("pred", gain),
            DataConsistencyd("pred", 1.0, True, get("regularisation"), get("smoothness")),
        ]
        return Compose(steps)({**data, "pred": data["pred"][:count]})


def simulations(part: Mapping, folder: Path) -> Iterator[Simulation]:
    """Yield every scan of a part of the plan with every protocol that it has enough voxels for."""
    for settings in part["protocols"]:
        protocol = SimulatedProtocol.of(settings)
        for name, scan in part["scans"].items():
            yield Simulation(name, scan, protocol, folder, part["crop"])


def counts(data: Mapping) -> list[int]:
    """The numbers of predictions for which scales are fitted: one, two, and all."""
    return sorted({1, 2, len(data["pred"])} & set(range(1, len(data["pred"]) + 1)))


def samples_of(workflow: Workflow, simulation: Simulation) -> dict[int, ErrorSample]:
    """Return voxels of the body with their errors, by the number of predictions."""
    data, truth, body = workflow.prepared(simulation)
    inside = np.flatnonzero(body)
    chosen = np.random.default_rng(0).choice(inside, min(VOXELS, len(inside)), replace=False)
    found = {}
    for count in counts(data):
        done = workflow.result(data, count)
        features = {
            name: value if name == NOISE else value.numpy().ravel()[chosen] for name, value in features_of(done).items()
        }
        error = (done["pred"].as_tensor()[0] - truth).abs().numpy().ravel()[chosen]
        own = simulation.protocol
        found[count] = ErrorSample(
            simulation.person, own.factor, own.stated_profile, own.noise == 0, features, error.astype(np.float64)
        )
    return found


def fitted(samples: Sequence[Mapping[int, ErrorSample]], workflow: Workflow, notes: Mapping) -> UncertaintyModel:
    """Return the model of all these samples."""
    numbers = sorted({count for sample in samples for count in sample})
    scales = [fit_scale([sample[count] for sample in samples], count) for count in numbers]
    return UncertaintyModel(scales, workflow.weights, workflow.sharpness, notes)


def rows_of(workflow: Workflow, simulation: Simulation, model: UncertaintyModel) -> Iterator[Row]:
    """Yield coverage and rank correlation of the uncertainty as a file stores it, from all predictions and from one."""
    data, truth, body = workflow.prepared(simulation)
    for count in (len(data["pred"]), 1):
        done = Uncertaintyd("uncertainty", model, workflow.trained_range)(workflow.result(data, count))
        yield {**scored(done, truth.numpy(), body, simulation), "predictions": count}


def scored(done: Mapping, truth: np.ndarray, body: np.ndarray, simulation: Simulation) -> Row:
    """Return the measures of a result with its uncertainty."""
    result, half_width = done["pred"].as_tensor()[0].numpy(), stored(done)
    former = done["disagreement"].as_tensor().square() + 0.25 * done["correction"].as_tensor().square()
    former = smoothed(former, 1.5)[0].numpy()  # in the order of what earlier versions wrote in place of it
    error = np.abs(result - truth)
    return {
        "scan": simulation.name,
        "factor": simulation.protocol.factor,
        "protocol": simulation.protocol.kind,
        "coverage": coverage(half_width, result, truth, body),
        "coverage_everywhere": coverage(half_width, result, truth),
        "rank_correlation": rank_correlation(half_width, result, truth, body),
        "former_rank_correlation": rank_correlation(former, result, truth, body),
        "half_width": float(half_width[body].mean()),
        "error_rms": float(np.sqrt((error[body] ** 2).mean())),
    }


def stored(done: Mapping) -> np.ndarray:
    """Return the half-width (X, Y, Z) as a file gives it back."""
    values = done["uncertainty"].as_tensor()[0].numpy()
    coding = coding_upwards(values)
    return coding.encode(values) * coding.slope + coding.intercept


COLUMNS = {  # of a row -> title, whether it is a share
    "coverage": ("coverage in the body", True),
    "coverage_everywhere": ("everywhere", True),
    "rank_correlation": ("rank correlation", False),
    "former_rank_correlation": ("formerly", False),
}


def table_of(rows: Sequence[Row]) -> str:
    """Return a Markdown table: a line for each factor and profile, with mean and range over the scans."""
    columns = {name: how for name, how in COLUMNS.items() if name in rows[0]}
    titles = ["factor", "profile", "n", *(title for title, _ in columns.values())]
    titles.append("mean half-width / error (root mean square)")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    kinds = sorted({(float(row["factor"]), str(row["protocol"])) for row in rows})
    groups = [(f"{f:g}", p, [r for r in rows if (r["factor"], r["protocol"]) == (f, p)]) for f, p in kinds]
    groups.append(("2 to 7", "all", [row for row in rows if float(row["factor"]) <= OUTSIDE]))
    groups.append(("above 7", "all", [row for row in rows if float(row["factor"]) > OUTSIDE]))
    for factor, protocol, own in groups:
        if own:
            cells = [factor, protocol, str(len(own))]
            cells += [_range(own, name, share) for name, (_, share) in columns.items()]
            cells.append(f"{fmean(float(row['half_width']) / float(row['error_rms']) for row in own):.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", misses(rows)])


def misses(rows: Sequence[Row]) -> str:
    """Return a line that names every scan whose coverage is outside the targets."""
    low, high = TARGETS
    bad = [
        f"{row['scan']} {float(row['factor']):g}x {row['protocol']} ({100 * float(row['coverage']):.1f} %)"
        for row in rows
        if not (low if float(row["factor"]) <= OUTSIDE else TARGET_OUTSIDE) <= float(row["coverage"])
        or (float(row["factor"]) <= OUTSIDE and float(row["coverage"]) > high)
    ]
    return f"Outside the targets: {', '.join(bad) or 'none'}; {len(bad)} of {len(rows)}."


def _range(rows: Sequence[Row], name: str, share: bool) -> str:
    values = [float(row[name]) for row in rows]
    shown = [f"{100 * v:.1f}" if share else f"{v:.2f}" for v in (fmean(values), min(values), max(values))]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" + (" %" if share else "")


def fit(scans: Path, cache: Path | None, sharpness: float | None) -> None:
    """Fit and calibrate the model, write it, and the table with each person left out in turn."""
    workflow, part = Workflow(cache, sharpness), plan_of_scans()["fit"]
    samples: dict[str, dict[int, ErrorSample]] = {}
    for simulation in _announced(simulations(part, scans)):
        samples[simulation.label] = samples_of(workflow, simulation)
    made = {simulation.label: simulation for simulation in simulations(part, scans)}
    notes = {str(scan["file"]): str(scan["note"]) for scan in reversed(part["scans"].values())}
    write_json(MODEL, fitted(list(samples.values()), workflow, notes).as_json())
    _publish("uncertainty_held_back", list(left_out(samples, made)))


def left_out(samples: Mapping[str, Mapping[int, ErrorSample]], made: Mapping[str, Simulation]) -> Iterator[Row]:
    """Yield the measures of every sample with the scale that is fitted on all other people."""
    for person in dict.fromkeys(made[label].person for label in samples):
        others = [sample for label, sample in samples.items() if made[label].person != person]
        for count in (max(others[0]), 1):
            scale = fit_scale([sample[count] for sample in others], count)
            for label, sample in samples.items():
                if made[label].person == person:
                    yield row_of_sample(made[label], sample[count], scale)


def row_of_sample(simulation: Simulation, sample: ErrorSample, scale: Scale) -> Row:
    """Return coverage and rank correlation in the voxels of a sample."""
    widths, error = half_widths(scale, sample)[:, None], sample.error[:, None]
    truth = np.zeros_like(error)
    return {
        "scan": simulation.name,
        "factor": sample.factor,
        "protocol": simulation.protocol.kind,
        "predictions": scale.predictions,
        "coverage": coverage(widths, error, truth),
        "rank_correlation": rank_correlation(widths, error, truth),
        "half_width": float(widths.mean()),
        "error_rms": float(np.sqrt((error**2).mean())),
    }


def measure(scans: Path, options: argparse.Namespace) -> None:
    """Measure the model as it is, and write the table."""
    workflow, model = Workflow(options.cache, options.sharpness), read_model(MODEL)
    chosen = (
        s
        for s in simulations(plan_of_scans()[options.part], scans)
        if s.protocol.label in (options.only or [s.protocol.label])
    )
    _publish(options.table, [row for simulation in _announced(chosen) for row in rows_of(workflow, simulation, model)])


def _publish(table: str, rows: Sequence[Row]) -> None:
    """Write the data of a table, the table of results of all predictions, and TABLE_one of those of one."""
    write_rows(rows, TABLES / f"{table}.csv")
    for count in sorted({int(row["predictions"]) for row in rows}):
        content, name = table_of([row for row in rows if row["predictions"] == count]), table + "_one" * (count == 1)
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), name, content), encoding="utf-8")
        sys.stdout.write(f"{name}\n{content}\n")


def picture(scans: Path, cache: Path | None) -> None:
    """Draw docs/images/uncertainty.png: a round lesion of 7 mm put into a held-back head, error beside uncertainty."""
    workflow, model, part = Workflow(cache), read_model(MODEL), plan_of_scans()["fit"]
    name, rows = next(iter(part["scans"])), []
    for factor in (4, 8.3):
        protocol = SimulatedProtocol(factor, "rect", name=f"lesion_{factor:g}x")
        simulation = Simulation(name, part["scans"][name], protocol, scans, part["crop"])
        centre = put_lesion(*simulation.truth)
        data, truth, _ = workflow.prepared(simulation)
        done = Uncertaintyd("uncertainty", model, workflow.trained_range)(workflow.result(data, len(data["pred"])))
        result = done["pred"].as_tensor()[0].numpy()
        grey = {"truth": truth.numpy(), "cubic interpolation": data["image"].as_tensor()[0].numpy()}
        grey[f"GLADE, {factor:g}x"] = result
        coloured = {"absolute error": np.abs(result - truth.numpy()), "uncertainty": stored(done)}
        rows.append(
            {title: Panel(volume[:, centre[1]], high=1.2) for title, volume in grey.items()}
            | {title: Panel(volume[:, centre[1]], 0.0, 0.4, "viridis") for title, volume in coloured.items()}
        )
    draw_panels(rows, IMAGES / "uncertainty.png")


def put_lesion(values: np.ndarray, grid: Grid) -> list[int]:
    """Put a bright round lesion of 7 mm into a volume (X, Y, Z), and return the voxel of its centre."""
    centre = [round(share * size) for share, size in zip((0.58, 0.5, 0.5), values.shape, strict=True)]
    offsets = (axis - c for axis, c in zip(np.indices(values.shape), centre, strict=True))
    distance_mm = float(grid.spacing_mm[0]) * np.sqrt(sum(o**2 for o in offsets))
    inside = np.clip(LESION_MM / 2 - distance_mm + 0.5, 0, 1)
    values += inside.astype(np.float32) * (1.25 * np.percentile(values, 99.5) - values)
    return centre


def plan_of_scans() -> dict:
    """Return the content of benchmarks/uncertainty.yaml."""
    return yaml.safe_load(PLAN.read_text(encoding="utf-8"))


def _announced(found: Iterator[Simulation]) -> Iterator[Simulation]:
    for simulation in found:
        if simulation.truth[0].shape[-1] // simulation.protocol.factor >= 5:  # else too few slices
            yield simulation
            sys.stderr.write(f"{simulation.label}: done\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, measure or draw, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("fit", "measure", "picture"))
    parser.add_argument("scans", type=Path)
    parser.add_argument("--cache", type=Path, help="folder for the predictions")
    parser.add_argument("--sharpness", type=float, help="of the weights; by default that of the inference")
    parser.add_argument("--part", choices=("fit", "apart", "measure"), default="measure", help="of the plan (measure)")
    parser.add_argument("--only", nargs="+", help="protocols, as 4x_rect 6x_gauss; by default all (measure)")
    parser.add_argument("--table", default="uncertainty", help="of docs/uncertainty.md (measure)")
    options = parser.parse_args(arguments)
    if options.command == "fit":
        fit(options.scans, options.cache, options.sharpness)
    elif options.command == "picture":
        picture(options.scans, options.cache)
    else:
        measure(options.scans, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
