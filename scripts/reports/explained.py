"""What each measure is called on a page, how its number is written, and how to read it in one line."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import math
from collections.abc import Iterable
from typing import NamedTuple

from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE  # noqa: F401, the pages import them from here
from ..evaluation.method_names import METHOD_ORDER as ORDER

MINUS, MISSING = "−", "–"
SMALLEST_PLAIN = 0.001  # under it a number is written with an exponent


class Explained(NamedTuple):
    """`title`: of the column. `hint`: which way is good. `text`: one line. `places`: decimals; None: three digits."""

    title: str
    hint: str
    text: str
    places: int | None = None


METRICS = {
    "psnr": Explained(
        "PSNR",
        "higher",
        "Peak signal-to-noise ratio against the truth inside the body, dB. The most faithful "
        "answer, not the sharpest, has the highest.",
        2,
    ),
    "ssim": Explained("SSIM", "higher", "Structural similarity to the truth inside the body; 1 is identity.", 3),
    "high_band_energy": Explained(
        "High-band energy",
        "near 1",
        "Detail finer than the slices can hold, result over truth: 1 is right, 0 smooth, "
        "above 1 too rough. It does not say whether the detail is the true one.",
        3,
    ),
    "high_band_error": Explained(
        "High-band error",
        "lower",
        "Energy of the error in that band over the truth's: 0 is all of it recovered, "
        "1 nothing, above 1 the invented detail does harm.",
        3,
    ),
    "pique": Explained(
        "PIQUE",
        "lower",
        "Perceived quality of the planes across the slices, 0 to 100, without reference: under 20 "
        "excellent, to 35 good, to 50 fair. One intensity window a scan for all methods.",
        1,
    ),
    "sharpness_closed": Explained(
        "Sharpness closed",
        "near 2",
        "Share of the difference in edge steepness between through-plane and in-plane that is closed: 0 is "
        "interpolation, 1 as sharp as the acquired planes, which thick slices have softened; truths have 1 to 3.",
        2,
    ),
    "spectrum_closed": Explained(
        "Spectrum closed",
        "near 2",
        "The same for the share of power in the band that the slices do not hold.",
        2,
    ),
    "residual": Explained(
        "Residual",
        "lower",
        "Does the result explain the scan? Acquired again, its relative difference from the acquired slices.",
    ),
    "cross_plane_correlation": Explained(
        "Cross-plane correlation",
        "higher",
        "Local correlation with a sharp scan in another plane.",
        3,
    ),
    "cross_plane_coherence": Explained(
        "Cross-plane coherence",
        "higher",
        "Agreement in the fine band with a sharp scan of the same anatomy in another plane: detail that is real.",
        3,
    ),
    "nrmse": Explained("NRMSE", "lower", "Root mean square error over the truth's, inside the body.", 4),
    "hfen": Explained("HFEN", "lower", "Error of fine structure (Laplacian of Gaussian) over the truth's.", 3),
    "edge": Explained("Edge steepness", "higher", "99th percentile of the gradient along an axis, 1/mm.", 3),
    "slice_period_banding": Explained(
        "Slice banding",
        "near 1",
        "Stripes at the slice distance, over their spectral neighbourhood; 1 is none.",
        2,
    ),
    "slice_period_steps": Explained(
        "Slice steps",
        "near 1",
        "Detail that comes and goes with the slices, as in a staircase; 1 is none. It detects, see the modulation for "
        "the strength.",
        2,
    ),
    "slice_period_modulation": Explained(
        "Slice modulation",
        "lower",
        "How much the step from plane to plane varies in the rhythm of the slices, a share of the mean step; without "
        "artefact some hundredths.",
        3,
    ),
    "slice_period_modulation_of_truth": Explained(
        "Slice modulation of the truth", "", "The same of the truth: what chance makes of this anatomy.", 3
    ),
    "slice_period_stripes": Explained(
        "Slice stripes",
        "lower",
        "How far whole planes are brighter or darker in the rhythm of the slices or in turn, a share of the mean step "
        "from plane to plane; without artefact some thousandths, with few slices some hundredths.",
        3,
    ),
    "slice_period_stripes_of_truth": Explained(
        "Slice stripes of the truth", "", "The same of the truth: what chance makes of this anatomy.", 3
    ),
    "slice_period_banding_to_truth": Explained(
        "Slice banding / truth", "near 1", "Slice banding over the truth's own.", 2
    ),
    "slice_period_steps_to_truth": Explained("Slice steps / truth", "near 1", "Slice steps over the truth's own.", 2),
    "confidence_rank_correlation": Explained(
        "Confidence rank correlation",
        "lower",
        "Spearman correlation of the confidence with the absolute error; −1 would tell every error.",
        2,
    ),
    "confidence_mean": Explained("Mean confidence", "", "Mean of the confidence volume inside the body, 0 to 1.", 2),
    "confident_share": Explained("Confident share", "", "Share of the body's voxels with a confidence above 0.5.", 3),
    "sharpness_closed_of_truth": Explained("Sharpness closed, the truth", "", "The same of the truth.", 2),
    "spectrum_closed_of_truth": Explained("Spectrum closed, the truth", "", "The same of the truth.", 2),
    "border_raw": Explained("Border gradient", "higher", "Steepest gradient across the named border, 1/mm.", 3),
    "border_sigmoid": Explained(
        "Border gradient, sigmoid", "higher", "The same of a sigmoid fitted to each profile.", 3
    ),
    "border_polynomial": Explained("Border gradient, polynomial", "higher", "The same of a fitted polynomial.", 3),
    "border_rise_mm": Explained("Border rise", "lower", "Distance from 10 to 90 % of the border's step, mm.", 2),
    "border_overshoot": Explained("Border overshoot", "lower", "Beyond the plateaus, over the step.", 3),
}
HEADLINE = tuple(METRICS)[:10]  # of the tables, in this order; what nobody measured has no column


def explained(metric: str) -> Explained:
    """What is known of a metric; a new one is called by its own name."""
    return METRICS.get(metric, Explained(metric.replace("_", " "), "", ""))


def title_of(metric: str, axis: str = "", unit: str = "") -> str:
    """Title of a metric, with its array axis and unit where it has them."""
    where = "" if axis in ("", None) else f"axis {axis}"
    parts = [explained(metric).title, where, "" if unit == "1" else unit]
    return ", ".join(part for part in parts if part)


def number(value: float | None, metric: str = "", signed: bool = False) -> str:
    """A value as it stands in a table; a dash for none."""
    if value is None or not math.isfinite(value):
        return MISSING if value is None or math.isnan(value) else "∞"
    places = explained(metric).places
    if places is not None:
        text = f"{value:.{places}f}"
    else:
        text = f"{value:.1e}" if 0 < abs(value) < SMALLEST_PLAIN else f"{value:.3g}"
    if signed and value > 0:
        text = f"+{text}"
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods as tables list them: from nearest to GLADE and its settings, then the others by name."""
    found = dict.fromkeys(methods)

    def place(method: str) -> tuple:
        if method in ORDER:
            return ORDER.index(method), method
        return len(ORDER) - (1 if method.startswith(GLADE) else 0), method

    return sorted(found, key=place)


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    """Known metrics first, in the order of `METRICS`; others after, as they came."""
    known = list(METRICS)
    found = list(dict.fromkeys(metrics))
    return sorted(found, key=lambda metric: known.index(metric) if metric in METRICS else len(known))
