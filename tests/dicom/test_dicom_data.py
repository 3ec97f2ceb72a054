"""The DICOM folders of ../shared/data: each gives exactly its known volumes, at their true positions, or a refusal."""

import shutil
import subprocess
from datetime import datetime

import numpy as np
import pytest

from scripts.derived_series.provenance import Provenance
from scripts.derived_series.writer import write_derived_series
from scripts.dicom.discovery import find_series, survey
from scripts.dicom.pixels import read_planes
from scripts.dicom.reader import DicomSeriesReader
from scripts.geometry.errors import Refusal

from .conftest import DICOM, same_place
from .oracles import highdicom_read, itk_read

pytestmark = pytest.mark.skipif(not DICOM.is_dir(), reason="../shared/data/dicom is absent")

# Folder: sizes of its volumes, slice spacing in mm, and text of the refusal (None: usable).
FOLDERS = {
    "bruker_mouse_t2_axial": ([(128, 128, 16)], 1.5, None),
    "canon_dwi_axial_oblique_2volumes": ([(80, 80, 40)] * 2, 3.0, None),
    "clinical_pelvis_t2_coronal_siemens": ([(320, 320, 19)], 3.6, None),
    "ge_epi_coronal_4volumes": ([(64, 64, 4)] * 4, 3.8, "4 slices; at least 5"),
    "ge_knee_sagittal_2echoes_bigendian": ([(256, 256, 10)] * 2, 4.0, None),
    "ge_t1_sagittal_implicit": ([(256, 256, 4)], 1.0, "4 slices; at least 5"),
    "hitachi_oblique": ([(64, 64, 4)], 4.0, "4 slices; at least 5"),
    "hyperfine_enhanced": ([(112, 138, 8)], 5.0, None),
    "philips_enhanced_t1": ([(256, 256, 8)], 1.2, None),
    "philips_mouse_t2_coronal": ([(320, 960, 3)], 0.5, "3 slices; at least 5"),
    "philips_swi_magnitude_phase": ([(768, 768, 2)] * 2, 1.0, "2 slices; at least 5"),
    "siemens_enhanced_anatomical": ([(256, 256, 8)], 0.9, None),
    "siemens_mosaic_sagittal_fmri": ([(64, 64, 36)] * 3, None, "mosaic of 36 slices"),
    "uih_t1_sagittal": ([(460, 512, 3)], 1.0, "3 slices; at least 5"),
    "transfer_syntax/jpeg2000": ([(256, 256, 4)], 1.0, "4 slices; at least 5"),
    "transfer_syntax/jpegls": ([(256, 256, 4)], 1.0, "4 slices; at least 5"),
    "transfer_syntax/jpeg_lossless": ([(256, 256, 4)], 1.0, "4 slices; at least 5"),
    "transfer_syntax/rle": ([(256, 256, 4)], 1.0, "4 slices; at least 5"),
    "transfer_syntax/one_slice_four_ways": ([(512, 512, 1)] * 4, 6.0, "1 slice; at least 5"),
    # These files hold no geometry at all: no functional groups, no position at the top level.
    "transfer_syntax/enhanced_explicit": ([(64, 64, 10)], None, "no geometry"),
    "transfer_syntax/enhanced_big_endian": ([(64, 64, 10)], None, "no geometry"),
    "transfer_syntax/enhanced_rle": ([(64, 64, 10)], None, "no geometry"),
    "transfer_syntax/enhanced_jpeg_2k_lossless": ([(64, 64, 10)], None, "no geometry"),
    "transfer_syntax/enhanced_jpeg_ls_lossless": ([(64, 64, 10)], None, "no geometry"),
}
FAILING = {
    "colour_rgb": "colour image",
    "ct_gantry_tilt": "not MR (Modality CT); slices are shifted sideways",
    "duplicate_position": "4 slices; at least 5",
    "localizer_three_planes": "3 orientations",
    "missing_slice_mr": "1 slice missing at 39.0 mm",
    "mixed_orientations_and_gaps": "2 orientations",
    "multi_echo_incomplete": "at least 5",
    "single_slice": "1 slice; at least 5",
    "too_few_slices": "2 slices; at least 5",
}
VENDORS = [
    "bruker_mouse_t2_axial",
    "canon_dwi_axial_oblique_2volumes",
    "clinical_pelvis_t2_coronal_siemens",
    "ge_knee_sagittal_2echoes_bigendian",
    "hitachi_oblique",
    "hyperfine_enhanced",
    "philips_enhanced_t1",
    "philips_mouse_t2_coronal",
    "siemens_enhanced_anatomical",
    "uih_t1_sagittal",
]
DATA_CASES = {name: volumes for name, volumes in FOLDERS.items() if volumes[1] is not None}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_gives_exactly_its_known_volumes(folder):
    sizes, spacing, word = FOLDERS[folder]
    found = survey(DICOM / folder)
    assert [volume.size for volume in found.volumes] == sizes
    assert (found.ignored, found.without_image, found.damaged) == (0, 0, ())
    for volume in found.volumes:
        assert (word is None) == (not volume.reasons)
        assert word is None or word in volume.refusal
        if spacing is not None:
            assert np.isclose(volume.stack.slice_spacing_mm, spacing, rtol=2e-3)


def test_every_folder_is_in_these_tables():
    found = {path.relative_to(DICOM).as_posix() for path in DICOM.rglob("*") if path.is_dir()}
    parents = {"failing", "transfer_syntax"}
    assert found - parents == set(FOLDERS) | {f"failing/{name}" for name in FAILING}


@pytest.mark.parametrize("folder", FAILING)
def test_folders_without_a_usable_volume_are_refused(folder):
    cases = find_series(DICOM / "failing" / folder)
    assert cases
    assert all(case.refusal for case in cases)
    assert any(FAILING[folder] in case.refusal for case in cases)
    reader = DicomSeriesReader()
    with pytest.raises(Refusal):
        reader.get_data(reader.read(DICOM / "failing" / folder))


@pytest.mark.parametrize("folder", DATA_CASES)
def test_voxels_and_affine_equal_those_of_itk_and_highdicom(folder):
    for volume in survey(DICOM / folder, minimum_slices=1).volumes:
        array, affine = read_planes(volume.frames), volume.stack.affine
        files = list(dict.fromkeys(frame.file for frame in volume.frames))
        other, other_affine = itk_read(files)
        assert np.array_equal(array, other)
        if volume.slice_count > 1:
            assert np.abs(affine - other_affine).max() < 1e-3
            edge = [n - 1 for n in array.shape] + [1]
            assert np.abs((affine - other_affine) @ edge).max() < 2e-3
        if volume.frames[0].frame_of_reference and not volume.frames[0].enhanced and volume.slice_count > 1:
            other, other_affine = highdicom_read(files)
            assert same_place(array, affine, other, other_affine) < 1e-3 * max(np.ptp(array), 1)


def test_one_slice_in_four_syntaxes_gives_equal_pixels():
    planes = [read_planes(volume.frames) for volume in survey(DICOM / "transfer_syntax/one_slice_four_ways").volumes]
    assert len(planes) == 4
    assert all(np.array_equal(plane, planes[0]) for plane in planes)


def test_four_syntaxes_of_one_series_give_equal_pixels():
    folders = ["jpeg2000", "jpegls", "jpeg_lossless", "rle"]
    arrays = [read_planes(survey(DICOM / "transfer_syntax" / name).volumes[0].frames) for name in folders]
    assert all(np.array_equal(array, arrays[0]) for array in arrays)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")
@pytest.mark.parametrize("folder", VENDORS)
def test_derived_series_have_no_validation_error_that_their_source_has_not(tmp_path, folder):
    volume, *more = survey(DICOM / folder, minimum_slices=2).volumes
    reader = DicomSeriesReader(minimum_slices=2)
    array, meta = reader.get_data(volume)
    thin = meta["affine"].copy()
    thin[:3, 2] /= 2
    thin[:3, 3] -= thin[:3, 2] / 2
    derived = write_derived_series(
        *(tmp_path / "derived", np.repeat(array, 2, axis=2), thin, volume),
        provenance=Provenance("1.0.0", "0" * 64),
        created=datetime(2026, 1, 2),
        more_sources=more,  # as of a result that was made of several
    )

    def errors(command, *files):
        report = subprocess.run([*command, *files], capture_output=True, text=True, check=False).stderr
        # These lines hold no item index, so that another number of items does not count as another error.
        return {line for line in report.splitlines() if line.startswith("Error")}

    source = volume.frames[0].file
    assert errors(["dciodvfy", "-new"], derived.files[0]) <= errors(["dciodvfy", "-new"], source)
    assert errors(["dcentvfy"], source, *derived.files[:3]) <= errors(["dcentvfy"], source)
    back, back_meta = reader.get_data(reader.read(list(derived.files)))
    assert same_place(np.repeat(array, 2, axis=2), thin, back, back_meta["affine"]) <= derived.coding.precision * 1.01
