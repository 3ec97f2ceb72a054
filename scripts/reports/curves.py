"""Charts as inline SVG: their colours are those of the page, light or dark, and their letters are text."""

import hashlib
import io
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a backend that needs no display

from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE

WIDTH_INCHES, HEIGHT_INCHES = 5.4, 3.7  # on a telephone the letters are still 8 points
FONT_POINTS = 11
THIN_POINTS, THICK_POINTS = 1.4, 2.2  # lines
DECADES = 5  # of a power spectrum that are shown
HEADROOM = 1.6  # over the largest mean power, for the legend
VARIABLES = {  # series -> the page's colour variable and the line style
    GLADE: ("--s-glade", "-"),
    "truth": ("--s-truth", "-"),
    CONSISTENT: ("--s-consistent", "--"),
    CUBIC: ("--s-cubic", "-."),
    "linear": ("--s-linear", ":"),
    "nearest": ("--s-nearest", ":"),
    "in-plane": ("--s-truth", ":"),
}
OTHERS = ("--s-other1", "--s-other2", "--s-other3")
FRONT = 20  # drawing order: above every line
UNIQUE_DIGITS = 10  # of a checksum that keeps the ids of the charts of one page apart
INK = "#010203"  # a colour that no series has: replaced by currentColor in the SVG
STAND_INS = {variable: f"#01{index:02x}fe" for index, variable in enumerate(
    dict.fromkeys([*(v for v, _ in VARIABLES.values()), *OTHERS, "--s-slices", "--line"])
)}  # fmt: skip
STYLE = {
    "svg.fonttype": "none",
    "font.size": FONT_POINTS,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": FONT_POINTS - 1,
    "axes.unicode_minus": True,
}


class Chart(NamedTuple):
    """An SVG drawing for the macro `chart` of the templates.

    Attributes:
        drawing: what stands inside the <svg> element.
        view_box: its coordinates.
        label: description for those who cannot see it.
    """

    drawing: str
    view_box: str
    label: str


def profile_chart(
    positions_mm: np.ndarray, curves: Mapping[str, np.ndarray], slices: tuple[np.ndarray, np.ndarray], label: str
) -> Chart:
    """Draw intensities along a line across an edge.

    Args:
        positions_mm: (S,), along the through-plane axis, the edge at 0.
        curves: method -> (S,) intensities in the scan's units.
        slices: positions in mm and intensities of the acquired slices, drawn as dots.
        label: description of the chart for those who cannot see it.
    """

    def draw(axes):
        for name, values in curves.items():
            axes.plot(positions_mm, values, label=name, zorder=_rank(name), **_line(name, curves))
        axes.plot(*slices, "o", color=STAND_INS["--s-slices"], markersize=5, label="acquired slices", zorder=FRONT)
        axes.set_xlabel("mm through-plane")
        axes.set_ylabel("intensity")

    return _svg(draw, label)


def spectrum_chart(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], nyquist: float, label: str) -> Chart:
    """Draw power spectra over one another.

    Args:
        curves: name -> frequencies in cycles/mm and power, relative to a common reference.
        nyquist: the slices' Nyquist frequency, cycles/mm.
        label: description of the chart for those who cannot see it.
    """

    def draw(axes):
        top = 0.0
        for name, (frequencies, power) in curves.items():
            axes.semilogy(frequencies[1:], power[1:], label=name, zorder=_rank(name), **_line(name, curves))
            top = max(top, float(power[1:].max()))
        axes.set_ylim(top / 10**DECADES, HEADROOM * top)
        axes.axvline(nyquist, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            "slices' Nyquist", (nyquist, 0), xycoords=("data", "axes fraction"), xytext=(4, 5),
            textcoords="offset points", fontsize=FONT_POINTS - 1,
        )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel("cycles/mm through-plane")
        axes.set_ylabel("relative power")

    return _svg(draw, label)


def colour_variable(name: str, all_names: Collection[str]) -> str:
    """Return the page's colour variable of a series.

    >>> colour_variable("cubic", ["cubic", "ECLARE"]), colour_variable("ECLARE", ["cubic", "ECLARE"])
    ('--s-cubic', '--s-other1')
    """
    if name in VARIABLES:
        return VARIABLES[name][0]
    others = [other for other in all_names if other not in VARIABLES]
    return OTHERS[others.index(name) % len(OTHERS)]


def _line(name: str, all_names) -> dict:
    style = VARIABLES.get(name, ("", (0, (6, 2))))[1]
    width = THICK_POINTS if name in (GLADE, "truth") else THIN_POINTS
    return {"color": STAND_INS[colour_variable(name, all_names)], "linestyle": style, "linewidth": width}


def _rank(name: str) -> int:
    return list(VARIABLES)[::-1].index(name) + 2 if name in VARIABLES else 2


def _svg(draw, label: str) -> Chart:
    """The chart that `draw(axes)` makes."""
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": hashlib.sha256(label.encode()).hexdigest()}):
        figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        try:
            draw(axes)
            figure.legend(loc="outside upper center", ncols=3)
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        finally:
            pyplot.close(figure)
    return _inlined(file.getvalue(), label)


def _inlined(text: str, label: str) -> Chart:
    """The file that matplotlib wrote, as a part of an HTML page.

    Ids become unique on the page, colours become variables of its style sheet, and nothing refers to other files.
    """
    text = text[text.index("<svg") : text.rindex("</svg>")]
    for rest in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->", r"(?<=<g) id=\"[^\"]*\""):
        text = re.sub(rest, "", text, flags=re.DOTALL)
    opening, inner = text.split(">", 1)
    view_box = re.search(r'viewBox="([^"]*)"', opening).group(1)
    for variable, stand_in in STAND_INS.items():
        inner = inner.replace(stand_in, f"var({variable})")
    inner = re.sub(r"font-family: [^;\"]*", "font-family: inherit", inner.replace(INK, "currentColor"))
    unique = hashlib.sha256(label.encode()).hexdigest()[:UNIQUE_DIGITS]
    inner = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>c{unique}-", inner)
    return Chart(re.sub(r"\s*\n\s*", " ", inner).strip(), view_box, label)
