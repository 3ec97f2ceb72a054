"""What a person wants to read of a DICOM volume in a list: plane, pixel size, and what kind of image it is."""

import numpy as np
from pydicom.tag import Tag

from ..geometry.views import VIEWS
from .discovery import Volume
from .elements import first_number_of, texts_of
from .files import DamagedError, quiet, read_dataset
from .headers import Frame

OBLIQUE_COSINE = 0.999
SEQUENCES = {"SE": "spin echo", "IR": "inversion recovery", "GR": "gradient echo", "EP": "echo planar"}
"""Values of ScanningSequence (PS3.3, C.8.3.1) and their words; other text is not repeated, it might name somebody."""
TIMES = {"RepetitionTime": "TR", "EchoTime": "TE", "InversionTime": "TI"}


def described(volume: Volume) -> str:
    """Return the protocol words of the series; where it has none, sequence and times, as far as the header has them."""
    first = volume.frames[0]
    return first.words.replace("_", " ") or ", ".join(_acquisition(first)) or "-"


def _acquisition(frame: Frame) -> list[str]:
    try:
        header = read_dataset(frame.file, [Tag(name) for name in ("ScanningSequence", *TIMES)])
    except DamagedError:
        return []
    with quiet():
        kinds = [SEQUENCES[kind] for kind in texts_of(header, "ScanningSequence") or [] if kind in SEQUENCES]
        times = {name: first_number_of(header, name) for name in TIMES}
    times["EchoTime"] = times["EchoTime"] or frame.echo_time_ms
    parts = [" ".join(part for part in (frame.acquisition_type, *kinds) if part)]
    parts += [f"{TIMES[name]} {value:.4g} ms" for name, value in times.items() if value]
    return [part for part in parts if part]


def pixel_size_mm(volume: Volume) -> tuple[float, ...]:
    """Distance of columns, then of rows, as a size counts them; PixelSpacing has it the other way round."""
    return (volume.frames[0].pixel_spacing_mm or ())[::-1]


def plane_of(volume: Volume) -> str:
    """Name of the acquired plane, see `plane_across`; "-" when unknown."""
    return "-" if volume.stack is None or volume.stack.affine is None else plane_across(volume.stack.affine[:3, 2])


def plane_across(normal: np.ndarray) -> str:
    """Return the name of the plane with this normal: axial, coronal or sagittal, with "oblique" where it is tilted.

    >>> plane_across(np.array([0, 0, 6.0]))
    'axial'
    """
    normal = normal / np.linalg.norm(normal)
    axis = int(np.abs(normal).argmax())
    return list(VIEWS)[axis] + ("" if abs(normal[axis]) > OBLIQUE_COSINE else " oblique")
