"""The same DICOM files read by other libraries: voxels (column, row, slice) and RAS affine."""

import highdicom
import itk
import numpy as np
import pydicom

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_read(files):
    image = itk.imread(files[0] if len(files) == 1 else list(files), itk.F)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = np.array(image.GetOrigin())
    return itk.array_from_image(image).transpose(2, 1, 0), LPS_TO_RAS @ affine


def highdicom_read(files):
    volume = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in files])
    # highdicom's order is (slice, row, column).
    return volume.array.transpose(2, 1, 0), (LPS_TO_RAS @ volume.affine)[:, [2, 1, 0, 3]]


def pydicom_read(files):
    slices = sorted((pydicom.dcmread(file) for file in files), key=lambda s: int(s.InstanceNumber))
    scaled = [s.pixel_array * float(s.get("RescaleSlope", 1)) + float(s.get("RescaleIntercept", 0)) for s in slices]
    first, last = (np.array(s.ImagePositionPatient, dtype=float) for s in (slices[0], slices[-1]))
    row, column = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(x) for x in slices[0].PixelSpacing)
    affine = np.eye(4)
    # PS3.3, equation C.7.6.2.1-1; the step from the outermost slices
    affine[:3] = np.stack([row * between_columns, column * between_rows, (last - first) / (len(slices) - 1), first], 1)
    return np.stack([plane.T for plane in scaled], -1), LPS_TO_RAS @ affine
