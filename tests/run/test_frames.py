"""4-D files of frames: what is read for them and what they may replace; tests/workflows/test_outputs.py: end to end."""

import logging
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.arrayproxy import ArrayProxy

from scripts.data.case import Case
from scripts.data.discovery import find_nifti
from scripts.data.formats import open_image
from scripts.data.nifti import open_nifti
from scripts.data.saving import SaveImageCased
from scripts.run.frames import FrameJoiner, _Place, _write
from scripts.run.record import RunRecord
from scripts.run.sidecars import ResultSidecar

from ..data.thick_scans import voxels, write_scan


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


def write_frames(path: Path, count: int, seed: int) -> Path:
    return write_scan(path, np.stack([voxels((8, 8, 6), seed=seed)] * count, -1))


def run(out: Path, cases: list[Case], value: float, write: str = "volume", redo: bool = False) -> None:
    """What a run does with cases: the result of each is a cube of one value; then frames are put together."""
    record = RunRecord(out, {"version": "1"}, redo=redo, write=[write])
    record.open()
    keys = ["pred", "uncertainty"]
    describe, replacing = ResultSidecar(record), record.replacing
    save = SaveImageCased(keys, out, ["glade", "uncertainty"], [write], describe=describe, replacing=replacing)
    for case in cases:
        with record.case(case) as entry:
            if entry.to_do:
                image = MetaTensor(torch.full((1, 4, 4, 4), value), affine=torch.eye(4))
                entry.loaded(image)
                save({"case": case, "pred": image, "uncertainty": image})
                entry.done(image)
    FrameJoiner(record, cases).run()


STAYS = "dwi: stays in frames: out holds the result of another scan of this name: give another output folder"


@pytest.mark.parametrize(("redo", "write"), [(False, "volume"), (True, "volume"), (False, "uncertainty")])
@pytest.mark.parametrize("count", [None, 2])
def test_joined_frames_do_not_replace_the_result_of_another_scan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int | None, write: str, redo: bool
):
    out, first, second = (tmp_path / name for name in ("out", "p1/dwi.nii.gz", "p2/dwi.nii.gz"))
    run(out, find_nifti(write_scan(first) if count is None else write_frames(first, count, seed=1)), 111.0, write)
    before = {path: path.read_bytes() for path in (out / "dwi").iterdir()}
    frames = find_nifti(write_frames(second, 3, seed=2))
    if count:  # three digits, as of a file of 101 frames: with two, the first frame is refused already
        frames = [replace(case, name=f"dwi_f{case.frame:03d}") for case in frames]
    run(out, frames, 222.0, write, redo)
    warnings = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    assert warnings == [STAYS]  # none of the first run
    assert {path: path.read_bytes() for path in (out / "dwi").iterdir()} == before
    assert all(any((out / case.name).glob("*.nii.gz")) for case in frames)


def test_joined_frames_replace_those_of_the_same_file_also_where_it_has_moved(tmp_path: Path):
    def joined() -> np.ndarray:
        return nibabel.load(out / "dwi/dwi_glade.nii.gz").get_fdata()

    out, scan = tmp_path / "out", write_frames(tmp_path / "p1/dwi.nii.gz", 2, seed=1)
    run(out, find_nifti(scan), 111.0)
    moved = scan.rename(tmp_path / "dwi.nii.gz")
    run(out, find_nifti(moved), 222.0, redo=True)
    assert np.allclose(joined(), 222)
    run(out, find_nifti(write_frames(moved, 2, seed=3)), 333.0)
    assert np.allclose(joined(), 333)


def test_the_repetition_time_of_an_mgh_file_keeps_its_unit(tmp_path: Path):
    path = tmp_path / "dwi.mgz"
    image = nibabel.MGHImage(np.stack([voxels((8, 8, 6))] * 2, -1), np.diag([1.0, 1, 5, 1]))
    image.header.set_zooms((1, 1, 5, 2000))
    image.to_filename(path)
    assert open_image(path).header.get_xyzt_units() == ("mm", "msec")
    run(tmp_path / "out", find_nifti(path), 111.0)
    header = nibabel.load(tmp_path / "out/dwi/dwi_glade.nii.gz").header
    assert (header.get_zooms()[3], header.get_xyzt_units()[1]) == (2000, "msec")  # 2 s
