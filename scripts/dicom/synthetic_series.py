"""Synthetic MR series: DICOM files as a scanner would send them, made from an array.

Used by the demo, the benchmarks and the tests; the headers belong to no person.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from ..geometry.errors import Refusal
from .elements import decimal_string
from .gate import RAS_TO_LPS
from .uids import uid_from

DATE = "20200101"
Header = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]


def write_series(
    folder: str | Path,
    volume: np.ndarray,
    affine: np.ndarray,
    *,
    slice_thickness_mm: float | None = None,
    acquisition_type: str = "2D",
    series_description: str = "T2 TSE",
    series_number: int = 1,
    rescale_slope: float | None = None,
    file_name: str | Callable[[int], str] = "IM{:04d}.dcm",
    header: Header | None = None,
    seed: int = 0,
) -> list[str]:
    """Write an original classic MR Image Storage series (PS3.3, A.4), one file per slice.

    Series of equal seed share the patient, the study and the frame of reference. Voxels are rounded to 16-bit integers,
    unsigned unless the volume has negative values.

    Args:
        folder: the folder of the files; created if absent.
        volume: (X, Y, slices): column, row, slice.
        affine: 4 x 4, voxel index to RAS position in mm; it may be oblique, reversed or sheared.
        slice_thickness_mm: SliceThickness; None: the slice spacing.
        acquisition_type: MRAcquisitionType, "2D" or "3D".
        series_description: SeriesDescription, at most 64 characters.
        series_number: SeriesNumber; the SeriesInstanceUID follows from it, the seed and the description.
        rescale_slope: RescaleSlope, by which voxels are divided before they are stored; None: no rescale is written.
        file_name: format of the slice number (from 1), or a function of the slice index (from 0).
        header: DICOM keywords and values that replace the defaults (None removes one), or a function of the slice index
            that returns them.
        seed: the UIDs and the patient's name follow from it.

    Returns:
        The files in slice order.

    Raises:
        Refusal: the volume is not three-dimensional or does not fit into 16 bits.
    """
    volume, affine = np.asarray(volume), np.asarray(affine, dtype=np.float64)
    if volume.ndim != 3 or affine.shape != (4, 4):
        raise Refusal(f"write_series: volume {volume.shape}, affine {affine.shape}; (X, Y, slices) and (4, 4) needed")
    stored = np.rint(volume / (rescale_slope or 1.0))
    signed = bool(stored.min() < 0)
    info = np.iinfo(np.int16 if signed else np.uint16)
    if stored.min() < info.min or stored.max() > info.max:
        raise Refusal(f"write_series: stored {stored.min():g} to {stored.max():g} exceed 16 bits; give rescale_slope")
    shared = _shared_header(slice_thickness_mm, acquisition_type, series_description, series_number, seed)
    if rescale_slope is not None:
        shared |= {"RescaleSlope": decimal_string(rescale_slope), "RescaleIntercept": "0", "RescaleType": "US"}
    shared |= {
        "WindowCenter": decimal_string(float(volume.max()) / 2),
        "WindowWidth": decimal_string(max(float(volume.max()), 1.0)),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(volume.shape[2]):
        geometry = _slice_geometry(affine, index, slice_thickness_mm)
        extra = header(index) if callable(header) else header
        dataset = _dataset(shared | geometry, stored[:, :, index], signed)
        _override(dataset, extra or {})
        name = file_name(index) if callable(file_name) else file_name.format(index + 1)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        files.append(str(path))
    return files


def _shared_header(
    slice_thickness_mm: float | None, acquisition_type: str, series_description: str, series_number: int, seed: int
) -> dict[str, Any]:
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "SOPClassUID": MRImageStorage,
        "StudyDate": DATE,
        "SeriesDate": DATE,
        "AcquisitionDate": DATE,
        "ContentDate": DATE,
        "StudyTime": "100000",
        "SeriesTime": "101500",
        "AcquisitionTime": "101500",
        "ContentTime": "102000",
        "AccessionNumber": "",
        "Modality": "MR",
        "Manufacturer": "GLADE synthetic scanner",
        "ReferringPhysicianName": "",
        "StudyDescription": "Synthetic study",
        "SeriesDescription": series_description,
        "ManufacturerModelName": "Phantom",
        "PatientName": f"PHANTOM^{seed:04d}",
        "PatientID": f"PHANTOM{seed:04d}",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "Synthetic image",
        "ScanningSequence": "GR" if acquisition_type == "3D" else "SE",
        "SequenceVariant": "SP" if acquisition_type == "3D" else "SK",
        "ScanOptions": "",
        "MRAcquisitionType": acquisition_type,
        "SliceThickness": None if slice_thickness_mm is None else decimal_string(slice_thickness_mm),
        "RepetitionTime": "4000",
        "EchoTime": "101",
        "NumberOfAverages": "1",
        "EchoNumbers": "1",
        "MagneticFieldStrength": "3",
        "EchoTrainLength": "1" if acquisition_type == "3D" else "25",
        "FlipAngle": "12" if acquisition_type == "3D" else "150",
        "SoftwareVersions": "1",
        "ProtocolName": series_description,
        "PatientPosition": "HFS",
        "BodyPartExamined": "PELVIS",
        "StudyInstanceUID": uid_from("study", seed),
        "SeriesInstanceUID": uid_from("series", seed, series_number, series_description),
        "StudyID": str(seed),
        "SeriesNumber": str(series_number),
        "AcquisitionNumber": "1",
        "FrameOfReferenceUID": uid_from("frame of reference", seed),
        "PositionReferenceIndicator": "",
    }


def _slice_geometry(affine: np.ndarray, index: int, slice_thickness_mm: float | None) -> dict[str, Any]:
    """Return the Image Plane attributes of one slice (PS3.3, C.7.6.2) from the RAS affine."""
    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    row, column, step = (lps[:3, axis] / spacing[axis] for axis in range(3))
    normal = np.cross(row, column)
    position = lps[:3, 3] + index * lps[:3, 2]
    between = abs(float(lps[:3, 2] @ normal)) or float(spacing[2])
    thickness = between if slice_thickness_mm is None else slice_thickness_mm
    sign = 1.0 if step @ normal >= 0 else -1.0
    return {
        "SliceThickness": decimal_string(thickness),
        "SpacingBetweenSlices": decimal_string(between),
        "InstanceNumber": str(index + 1),
        "ImagePositionPatient": [decimal_string(x) for x in position],
        "ImageOrientationPatient": [decimal_string(x) for x in (*row, *column)],
        "SliceLocation": decimal_string(sign * float(position @ normal)),
        "PixelSpacing": [decimal_string(spacing[1]), decimal_string(spacing[0])],
    }


def _dataset(header: Mapping[str, Any], plane: np.ndarray, signed: bool) -> Dataset:
    dataset = Dataset()
    _override(dataset, {key: value for key, value in header.items() if value is not None})
    dataset.SOPInstanceUID = uid_from("instance", dataset.SeriesInstanceUID, dataset.InstanceNumber)
    dataset.Columns, dataset.Rows = plane.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = np.ascontiguousarray(plane.T).astype("<i2" if signed else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _override(dataset: Dataset, values: Mapping[str, Any]) -> None:
    for keyword, value in values.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or uid_from("none")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
