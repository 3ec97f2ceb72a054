"""The JSON file beside each NIfTI result: what it is, from what and how it was made."""

from typing import Any

from monai.data import MetaTensor

from ..data.acceptance import ScanProtocol
from ..data.case import NIFTI, Case
from ..data.saving import ADDED_DETAIL, COVERAGE, RESIDUAL, RESULT, UNCERTAINTY
from ..geometry.files import plain
from .record import RunRecord

NAME = "GLADE"
DESCRIPTIONS = {
    RESULT: "Isotropic volume made from thick slices by GLADE; detail across the slices is synthesised in part",
    ADDED_DETAIL: "What the network of GLADE added to the part of the isotropic volume that the slices leave open",
    UNCERTAINTY: "Half-width that holds the error of the isotropic volume in 90 % of voxels, in the units of the scan",
    COVERAGE: "Number of stacks that see a voxel of the isotropic volume",
    RESIDUAL: "Slices of a stack minus those of the isotropic volume, in the units of the reference, 0 outside of it",
}
UNCERTAINTY_OF_SEVERAL = (
    "Half-width that holds the error of the isotropic volume in 90 % of voxels, in the units of the reference; "
    "calibrated on simulated stacks between which the body moves rigidly"
)


class ResultSidecar:
    """Describe the NIfTI files of a case, for `SaveImageCased`; fields that BIDS knows have its names.

    Args:
        record: of the run, for geometry, protocol, settings and weights.
    """

    def __init__(self, record: RunRecord):
        self.record = record

    def __call__(
        self, case: Case, postfix: str, volume: MetaTensor, protocol: ScanProtocol | None = None
    ) -> dict[str, Any]:
        """Return the content of a sidecar.

        Args:
            case: which is being processed.
            postfix: which volume it is.
            volume: (1, X, Y, Z), as it is written.
            protocol: of the slices on which it lies; None: it lies on the isotropic grid.
        """
        row = self.record.snapshot(case, volume).as_row()
        of_several = len(row["input"].get("stacks", [])) > 1
        return {
            "Description": UNCERTAINTY_OF_SEVERAL if of_several and postfix == UNCERTAINTY else DESCRIPTIONS[postfix],
            "Sources": [file.name for file in case.files] if case.format == NIFTI else [],
            "GeneratedBy": [{"Name": NAME, "Version": row["settings"].get("version")}],
            **self._resolution(row, protocol),
            "Input": row["input"],
            "Output": row["output"],
            "Warnings": row["warnings"],
            "Settings": row["settings"],
            "WeightsSHA256": row["weights_sha256"],
            **(self.record.naming.metadata(case) if self.record.naming else {}),
        }

    @staticmethod
    def _resolution(row: dict[str, Any], protocol: ScanProtocol | None) -> dict[str, Any]:
        if protocol is not None:
            return {
                "Resolution": "the slices of the stack",
                "SliceThickness": protocol.slice_thickness_mm,
                "SpacingBetweenSlices": protocol.slice_spacing_mm,
                "Acquisition": plain(protocol.as_row()),
            }
        spacing, own_grid = max(row["output"]["spacing_mm"]), row["settings"].get("like") is None
        return {
            "Resolution": f"isotropic, {spacing:.4g} mm" if own_grid else "that of another image",
            "SliceThickness": spacing,
            "SpacingBetweenSlices": spacing,
            "Acquisition": row["protocol"],
        }
