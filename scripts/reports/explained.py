"""Titles, number formats and one-line explanations of the measures on a page."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import math
from collections.abc import Iterable
from typing import NamedTuple

from ..evaluation.method_names import CONSISTENT, GLADE, METHOD_ORDER

HIGHER, LOWER, ONE = "higher is better", "lower is better", "1 is best"
MINUS, MISSING = "−", "–"
SMALLEST_PLAIN = 0.001  # smaller numbers are written with an exponent
LARGEST_ROUNDED = 100  # larger ones are written to the unit, without an exponent


class Explained(NamedTuple):
    """How a measure is shown.

    Attributes:
        title: of its column.
        hint: which direction is good.
        text: one line on how to read it.
        places: decimals; None: three significant digits, or all before the point.
    """

    title: str
    hint: str
    text: str
    places: int | None = None


METRICS = {
    "psnr": Explained(
        "PSNR",
        HIGHER,
        "Peak signal-to-noise ratio against the truth inside the body, dB. It is highest for the result with the "
        "smallest error, which is seldom the sharpest.",
        2,
    ),
    "ssim": Explained(
        "SSIM", HIGHER, "Structural similarity to the truth inside the body; 1 if both are identical.", 3
    ),
    "high_band_energy": Explained(
        "High-band energy",
        ONE,
        "Energy of the detail that is too fine for the slices, result over truth: 1 is as much as in the truth, below "
        "1 smoother, above 1 rougher. It does not say whether the detail is the true one.",
        3,
    ),
    "high_band_error": Explained(
        "High-band error",
        LOWER,
        "Energy of the error of that detail over the truth's energy: 0 if all of it is recovered, 1 if none is, above "
        "1 if invented detail makes the result worse than no detail.",
        3,
    ),
    "pique": Explained(
        "PIQUE",
        LOWER,
        "Perceived quality of the planes across the slices without a reference, 0 to 100: under 20 excellent, to 35 "
        "good, to 50 fair. All methods of a scan share one intensity window.",
        1,
    ),
    "sharpness_closed": Explained(
        "Relative edge sharpness",
        "0 as cubic, 1 as in-plane",
        "Steepness of the edges through-plane on a scale on which cubic interpolation has 0 and the acquired planes, "
        "in-plane, have 1. Thick slices also soften the acquired planes, so true thin slices have 1 to 3, mostly "
        "about 2. In the csv files: sharpness_closed.",
        2,
    ),
    "spectrum_closed": Explained(
        "Relative fine detail",
        "0 as cubic, 1 as in-plane",
        "Share of the power through-plane in detail that is too fine for the slices, on the same scale: cubic "
        "interpolation has 0, the acquired planes have 1, true thin slices have 1 to 3. Where the acquired planes hold "
        "hardly more detail than the cubic interpolation, the scale is short and large values mean little. In the csv "
        "files: spectrum_closed.",
        2,
    ),
    "residual": Explained(
        "Residual",
        LOWER,
        "Agreement with the scan: relative difference of slices simulated from the result to the acquired ones.",
    ),
    "cross_plane_correlation": Explained(
        "Cross-plane correlation",
        HIGHER,
        "Local correlation with a scan of the same anatomy that is sharp in this plane.",
        3,
    ),
    "cross_plane_coherence": Explained(
        "Cross-plane coherence",
        HIGHER,
        "Agreement of the fine detail with a scan of the same anatomy that is sharp in this plane: 1 if the detail is "
        "real, near 0 if it is invented.",
        3,
    ),
    "nrmse": Explained(
        "NRMSE", LOWER, "Root mean square error over the root mean square of the truth, inside the body.", 4
    ),
    "hfen": Explained(
        "HFEN", LOWER, "Error of fine structures (Laplacian of Gaussian) over their size in the truth.", 3
    ),
    "edge": Explained("Edge steepness", HIGHER, "99th percentile of the gradient along an axis, 1/mm.", 3),
    "slice_period_banding": Explained(
        "Slice banding",
        ONE,
        "Power of stripes at the slice distance over that of neighbouring frequencies; 1 if there are none.",
        2,
    ),
    "slice_period_steps": Explained(
        "Slice steps",
        ONE,
        "Power of detail that repeats with the slices, as in a staircase, over that of neighbouring frequencies; 1 if "
        "there is none. It detects the artefact; the modulation says how large it is.",
        2,
    ),
    "slice_period_modulation": Explained(
        "Slice modulation",
        LOWER,
        "Variation, with the period of the slices, of the change from plane to plane, as a share of the mean change; "
        "some hundredths without artefact.",
        3,
    ),
    "slice_period_modulation_of_truth": Explained(
        "Slice modulation of the truth",
        "",
        "The same of the truth: the value that this anatomy has without artefact.",
        3,
    ),
    "slice_period_stripes": Explained(
        "Slice stripes",
        LOWER,
        "Brightness differences of whole planes with the period of the slices or alternating from plane to plane, as a "
        "share of the mean change from plane to plane; some thousandths without artefact, some hundredths where "
        "slices are few.",
        3,
    ),
    "slice_period_stripes_of_truth": Explained(
        "Slice stripes of the truth", "", "The same of the truth: the value that this anatomy has without artefact.", 3
    ),
    "slice_period_banding_to_truth": Explained(
        "Slice banding / truth", ONE, "Slice banding over that of the truth.", 2
    ),
    "slice_period_steps_to_truth": Explained("Slice steps / truth", ONE, "Slice steps over those of the truth.", 2),
    "uncertainty_coverage": Explained(
        "Uncertainty coverage",
        "0.9 is best",
        "Share of the body's voxels whose absolute error is at most the uncertainty, which is made to hold 0.9.",
        3,
    ),
    "uncertainty_rank_correlation": Explained(
        "Uncertainty rank correlation",
        HIGHER,
        "Spearman correlation of the uncertainty with the absolute error: 1 if it ranks all errors correctly, 0 if it "
        "says nothing about them.",
        2,
    ),
    "uncertainty_mean": Explained("Mean uncertainty", "", "Mean of the uncertainty inside the body, scan units.", 3),
    "sharpness_closed_of_truth": Explained("Relative edge sharpness of the truth", "", "The same of the truth.", 2),
    "spectrum_closed_of_truth": Explained("Relative fine detail of the truth", "", "The same of the truth.", 2),
    "border_raw": Explained("Border gradient", HIGHER, "Steepest gradient across the given border, 1/mm.", 3),
    "border_sigmoid": Explained("Border gradient, sigmoid", HIGHER, "The same of a sigmoid fitted to each profile.", 3),
    "border_polynomial": Explained("Border gradient, polynomial", HIGHER, "The same of a fitted polynomial.", 3),
    "border_rise_mm": Explained("Border rise", LOWER, "Distance from 10 to 90 % of the step at the border, mm.", 2),
    "border_overshoot": Explained(
        "Border overshoot",
        LOWER,
        "Intensity beyond the plateaus on both sides of the border, over the step.",
        3,
    ),
}
ACQUIRED = "as acquired"
SHOWN = {
    ACQUIRED: "The slices of the scan, as thick as they are.",
    "nearest": "Each voxel has the value of the nearest slice.",
    "linear": "Linear interpolation between the slices.",
    "cubic": "Cubic interpolation between the slices, without a network. It invents nothing and stays blurred.",
    CONSISTENT: "Cubic interpolation, corrected so that thick slices made from it agree with the acquired ones, as "
    "those of GLADE do. No network: what GLADE has beyond it is its added detail.",
    GLADE: "The result: with fine detail that a network predicts, corrected so that thick slices made from it agree "
    "with the acquired ones.",
    "truth": "What the thick slices were made from: known for simulated scans only.",
    "added detail": "GLADE minus consistent cubic, in the units of the scan: what comes from the network alone. Red is "
    "brighter, blue darker.",
    "uncertainty": "Half-width in the units of the scan, made so that the error is not larger in 90 % of the voxels.",
}
"""What each picture, curve and method is."""


def explained(metric: str) -> Explained:
    """Return how a metric is shown; an unknown one by its own name.

    >>> explained("psnr").title, explained("my_metric").title
    ('PSNR', 'my metric')
    """
    return METRICS.get(metric, Explained(metric.replace("_", " "), "", ""))


def what_is_shown(names: Iterable[str], **other: str) -> list[tuple[str, str]]:
    """Return the name and the description of pictures, curves and methods; those of other methods have none.

    Args:
        names: of what is on a page.
        other: descriptions that replace those of `SHOWN`.

    >>> what_is_shown(["truth", "ECLARE"])
    [('truth', 'What the thick slices were made from: known for simulated scans only.')]
    """
    wanted = set(names)
    return [(name, text) for name, text in {**SHOWN, **other}.items() if name in wanted]


def title_of(metric: str, axis: str = "", unit: str = "") -> str:
    """Return the title of a metric, with its array axis and unit where it has them.

    >>> title_of("edge", "2", "1/mm")
    'Edge steepness, axis 2, 1/mm'
    """
    where = "" if axis in ("", None) else f"axis {axis}"
    parts = [explained(metric).title, where, "" if unit == "1" else unit]
    return ", ".join(part for part in parts if part)


def number(value: float | None, metric: str = "", signed: bool = False) -> str:
    """Write a value for a table; a dash for none.

    Args:
        value: the number, or None.
        metric: decides the number of decimals.
        signed: whether positive numbers get a plus sign, as differences do.

    >>> number(27.318, "psnr"), number(0.5, "psnr", signed=True), number(None), number(12345.6)
    ('27.32', '+0.50', '–', '12346')
    """
    if value is None or not math.isfinite(value):
        return MISSING if value is None or math.isnan(value) else "∞"
    places = explained(metric).places
    if places is not None:
        text = f"{value:.{places}f}"
    else:
        form = ".1e" if 0 < abs(value) < SMALLEST_PLAIN else ".3g" if abs(value) < LARGEST_ROUNDED else ".0f"
        text = format(value, form)
    if signed and value > 0:
        text = f"+{text}"
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def ordered(methods: Iterable[str]) -> list[str]:
    """Sort methods as tables list them: from nearest to GLADE and its settings, then the others by name.

    >>> ordered(["ECLARE", "GLADE", "GLADE 0.5", "cubic"])
    ['cubic', 'GLADE', 'GLADE 0.5', 'ECLARE']
    """
    found = dict.fromkeys(methods)

    def rank(method: str) -> tuple:
        if method in METHOD_ORDER:
            return METHOD_ORDER.index(method), method
        return len(METHOD_ORDER) - (1 if method.startswith(GLADE) else 0), method

    return sorted(found, key=rank)


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    """Sort metrics: known ones in the order of `METRICS`, then the others in their own order."""
    known = list(METRICS)
    found = list(dict.fromkeys(metrics))
    return sorted(found, key=lambda metric: known.index(metric) if metric in METRICS else len(known))
