"""What other libraries make of the same DICOM files: voxels (column, row, slice) and RAS affine."""

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
