"""4-D files of frames: what is read for them. tests/workflows/test_outputs.py has them end to end."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.arrayproxy import ArrayProxy

from scripts.data.nifti import open_nifti
from scripts.run.frames import _Place, _write


def test_a_4d_file_that_is_joined_again_with_a_new_frame_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    values = np.random.default_rng(0).integers(0, 1000, (6, 5, 4, 5), dtype=np.int16)
    joined, new, again = (tmp_path / f"{name}.nii.gz" for name in ("joined", "new", "again"))
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), joined)
    frame = nibabel.Nifti1Image(values[..., 2], np.eye(4))
    frame.header.set_slope_inter(2.0, 0.0)  # another coding, so that the frames are read before they are written too
    nibabel.save(frame, new)
    expected = values.astype(float)
    expected[..., 2] = nibabel.load(new).get_fdata()
    read, unpack = [], ArrayProxy.get_unscaled
    monkeypatch.setattr(ArrayProxy, "get_unscaled", lambda self: read.append(self.shape) or unpack(self))
    places = [_Place(new) if index == 2 else _Place(joined, index) for index in range(5)]
    _write(again, places, open_nifti(joined), rounds_up=False)
    assert read.count(values.shape) == 1
    assert np.abs(nibabel.load(again).get_fdata() - expected).max() <= 0.5
