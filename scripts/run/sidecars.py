"""The JSON file beside each NIfTI result: what it is, from what and how it was made."""

from typing import Any

from monai.data import MetaTensor

from ..data.case import NIFTI, Case
from ..data.saving import ADDED_DETAIL, RESULT, UNCERTAINTY
from .record import RunRecord

NAME = "GLADE"
DESCRIPTIONS = {
    RESULT: "Isotropic volume made from thick slices by GLADE; detail across the slices is synthesised in part",
    ADDED_DETAIL: "What the network of GLADE added to the part of the isotropic volume that the slices leave open",
    UNCERTAINTY: "Half-width that holds the error of the isotropic volume in 90 % of voxels, in the units of the scan",
}


class ResultSidecar:
    """Describe the NIfTI files of a case, for `SaveImageCased`; fields that BIDS knows have its names.

    Args:
        record: of the run, for geometry, protocol, settings and weights.
    """

    def __init__(self, record: RunRecord):
        self.record = record

    def __call__(self, case: Case, postfix: str, volume: MetaTensor) -> dict[str, Any]:
        """Return the content of a sidecar.

        Args:
            case: which is being processed.
            postfix: which volume it is.
            volume: (1, X, Y, Z), as it is written.
        """
        row = self.record.snapshot(case, volume).as_row()
        spacing, own_grid = row["output"]["spacing_mm"], row["settings"].get("like") is None
        return {
            "Description": DESCRIPTIONS[postfix],
            "Sources": [file.name for file in case.files] if case.format == NIFTI else [],
            "GeneratedBy": [{"Name": NAME, "Version": row["settings"].get("version")}],
            "Resolution": f"isotropic, {max(spacing):.4g} mm" if own_grid else "that of another image",
            "SliceThickness": max(spacing),
            "SpacingBetweenSlices": max(spacing),
            "Acquisition": row["protocol"],
            "Input": row["input"],
            "Output": row["output"],
            "Warnings": row["warnings"],
            "Settings": row["settings"],
            "WeightsSHA256": row["weights_sha256"],
            **(self.record.naming.metadata(case) if self.record.naming else {}),
        }
