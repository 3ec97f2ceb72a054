"""Whether images of a series are missing where the positions of the others do not show it, by what the headers count.

Slices lost at an end of a stack, or every second one, leave an even stack.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .gate import SPACING_TAG_TOLERANCE, Note
from .headers import Frame

FIRST_NUMBERS = (0, 1)
"""InstanceNumber of the first image of a whole series; some programs count from 0."""


@dataclass(frozen=True)
class Numbering:
    """How the images of a series are numbered.

    Attributes:
        numbers: InstanceNumber of all its images, each once.
        images: number of its images.
        stated: the largest ImagesInAcquisition; None where it is absent.
    """

    numbers: frozenset[int]
    images: int
    stated: int | None

    def notes(self) -> list[Note]:
        """Return a note where numbers are missing, or there are fewer images than ImagesInAcquisition.

        A whole multiple of the images is no sign: ImagesInAcquisition counts those of all series of one acquisition,
        such as the images of a Dixon sequence.

        >>> Numbering(frozenset(range(7, 16)), 9, None).notes()[0].text
        'InstanceNumber runs from 7 to 15 in the 9 images of the series: slices may be missing'
        >>> Numbering(frozenset(range(1, 16)), 15, 20).notes()[0].text
        'the series has 15 images, ImagesInAcquisition says 20: slices may be missing'
        """
        first, last = min(self.numbers), max(self.numbers)
        if first not in FIRST_NUMBERS or last - first + 1 > len(self.numbers):
            told = f"InstanceNumber runs from {first} to {last} in the {self.images} images of the series"
        elif self.stated and self.stated > self.images and self.stated % self.images:
            told = f"the series has {self.images} images, ImagesInAcquisition says {self.stated}"
        else:
            return []
        return [Note(f"{told}: slices may be missing", warns=True)]

    def reasons(self, frames: Sequence[Frame], slice_spacing_mm: float | None) -> list[str]:
        """Return why the slices of a volume are refused: between each two there are others, which are missing.

        Args:
            frames: of the volume, sorted by position.
            slice_spacing_mm: their distance; None where it is unknown.
        """
        stated_mm = frames[0].slice_spacing_tag_mm
        if slice_spacing_mm is None or not stated_mm or len(frames) < 2:
            return []
        step = round(slice_spacing_mm / stated_mm)
        if step < 2 or abs(slice_spacing_mm / stated_mm - step) > SPACING_TAG_TOLERANCE * step:
            return []
        own = [frame.instance_number or 0 for frame in frames]
        steps = {second - first for first, second in pairwise(own)}
        between = set(range(min(own), max(own) + 1)) - set(own)
        if steps not in ({step}, {-step}) or between & self.numbers:
            return []
        return [
            f"{step - 1} of {step} slices are missing: distances of {slice_spacing_mm:.4g} mm, SpacingBetweenSlices "
            f"{stated_mm:g} mm, InstanceNumber in steps of {step}: copy the whole series"
        ]


def numberings(frames: Iterable[Frame]) -> dict[str, Numbering]:
    """Return the numbering of each series, by SeriesInstanceUID; none of series whose files hold several images.

    Args:
        frames: all images that were found.
    """
    series: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        series[frame.series].append(frame)
    return {
        uid: Numbering(
            frozenset(frame.instance_number for frame in images if frame.instance_number is not None),
            len({frame.sop_instance or frame.file for frame in images}),
            max(frame.images_in_acquisition or 0 for frame in images) or None,
        )
        for uid, images in series.items()
        if uid and all(map(_is_numbered, images))
    }


def _is_numbered(frame: Frame) -> bool:
    return frame.instance_number is not None and frame.frames_in_file == 1 and not frame.mosaic_images
