"""Slice thickness of a scan by its spectrum, where neither a setting nor the header states it."""

import logging
import math
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from monai.transforms import MapTransform

from ..physics.profile import PROFILES
from ..physics.profile_estimate import ProfileEstimate, estimate_profile, fit_profiles
from .acceptance import THICKNESS_UNKNOWN, TYPE_UNKNOWN, ScanProtocol
from .case import scan_name
from .trained_range import add_warnings
from .transforms import grid_of

CONTRADICTION = 1.4  # times, beyond two deviations: how far a stated thickness lies from the estimate before a warning
CONCEIVABLE = (0.4, 2.0)  # thickness over spacing, of what a stated thickness is compared with
EQUAL_FIT = 0.05  # of the misfit: profiles that the spectrum does not tell apart (docs/slice_profile.md)
SOURCE = "estimated from the spectrum"

logger = logging.getLogger(__name__)


class EstimateProfiled(MapTransform):
    """Replace what `AcceptScand` had to assume of the slices by an estimate (`estimate_profile`).

    Where neither a setting nor the header states the thickness, it is estimated if the profile is known. Where both are
    unknown, the assumption stays and the log says what the spectrum looks like: the best of several profiles was on
    average no better than the assumption (docs/slice_profile.md). It stays too where the spectrum does not determine
    the thickness. A stated thickness stays in any case; where the spectrum strongly disagrees, a warning is added to
    meta["warnings"].

    Args:
        keys: scans (1, X, Y, N), through-plane axis last, square pixels, with meta["noise"] and meta["protocol"].
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data, with meta["protocol"] completed."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            protocol: ScanProtocol = volume.meta["protocol"]
            pixel_mm = float(grid_of(volume).spacing_mm[0])
            profiles = PROFILES if protocol.profile_source == TYPE_UNKNOWN else (protocol.profile,)
            scan = {
                "slices": volume.as_tensor()[0].numpy(),
                "factor": protocol.slice_spacing_mm / pixel_mm,
                "noise": volume.meta["noise"] / volume.meta["intensity"].scale,
                "profiles": profiles,
                "acquired_pixels": [max(1.0, mm / pixel_mm) for mm in volume.meta["acquired_pixel_mm"]],
            }
            if protocol.thickness_source == THICKNESS_UNKNOWN:
                found = estimate_profile(**scan)
                if found is not None and profiles == (protocol.profile,):
                    volume.meta["protocol"] = completed = _completed(protocol, found)
                    logger.info("%s: %s", scan_name(out, key), _described(completed))
                else:
                    logger.info("%s: %s", scan_name(out, key), _assumed(protocol, found))
            else:
                warning = _contradiction(protocol, fit_profiles(**scan, allowed=CONCEIVABLE))
                if warning:
                    add_warnings(out, key, [warning], logger)
        return out


def _assumed(protocol: ScanProtocol, found: ProfileEstimate | None) -> str:
    spacing, seen = protocol.slice_spacing_mm, "the spectrum does not tell the slice thickness"
    if found is not None:
        thickness = f"{spacing * found.thickness_over_spacing:.3g} mm thick ({found.profile})"
        seen = f"the spectrum looks like that of slices {thickness}, which is no certain measure"
    return (
        f"{seen}; {protocol.slice_thickness_mm:.3g} mm, the slice spacing, and {protocol.profile} are assumed: "
        f"give --slice_thickness_mm and --slice_profile where they are known"
    )


def _completed(protocol: ScanProtocol, found: ProfileEstimate) -> ScanProtocol:
    spacing = protocol.slice_spacing_mm
    low, high = (spacing * found.thickness_over_spacing * math.exp(sign * found.deviation) for sign in (-1, 1))
    source = f"{SOURCE}, {low:.3g} to {high:.3g} mm"
    return replace(protocol, slice_thickness_mm=spacing * found.thickness_over_spacing, thickness_source=source)


def _described(protocol: ScanProtocol) -> str:
    return (
        f"slice thickness {protocol.slice_thickness_mm:.3g} mm ({protocol.thickness_source}), "
        f"profile {protocol.profile} ({protocol.profile_source})"
    )


def _contradiction(protocol: ScanProtocol, fits: list[ProfileEstimate]) -> str | None:
    """A warning, where the stated thickness lies far outside of what the spectrum allows for each of the profiles."""
    stated, spacing = protocol.slice_thickness_mm, protocol.slice_spacing_mm
    if not fits or not fits[0].is_reliable:
        return None
    for fit in fits:
        if fit.misfit > fits[0].misfit + EQUAL_FIT:
            break
        away = abs(math.log(stated / (spacing * fit.thickness_over_spacing)))
        if away <= math.log(CONTRADICTION) + 2 * fit.deviation:
            return None
    return (
        f"slice thickness {stated:.3g} mm ({protocol.thickness_source}), but the spectrum is that of slices "
        f"{spacing * fits[0].thickness_over_spacing:.3g} mm thick ({fits[0].profile}): check it, or give "
        f"--slice_thickness_mm"
    )
