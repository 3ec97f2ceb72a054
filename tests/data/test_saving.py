import errno
import gzip
import os
import resource
import signal

import nibabel
import numpy as np
import pytest
import torch
from monai.data import ImageWriter, MetaTensor
from monai.transforms import SaveImaged

from scripts.data.case import Case
from scripts.data.coding import WHOLE, IntegerCoding
from scripts.data.outputs import chosen_outputs
from scripts.data.saving import SaveImageCased, coding_of_result, write_nifti
from scripts.geometry.errors import Refusal

from .thick_scans import oblique_affine


def result(value=0.0, shape=(12, 10, 14)) -> MetaTensor:
    noise = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    return MetaTensor(torch.as_tensor(noise + value), affine=torch.as_tensor(oblique_affine((0.8, 0.8, 0.8))))


VOLUME = object()  # of a DICOM case; only handed on


def case(name="knee", kind="nifti") -> dict:
    found = Case(name, (), kind, volume=VOLUME if kind == "dicom" else None)
    return {"case": found, "pred": result(), "added_detail": result(1), "uncertainty": result(2)}


def saver(folder, **more) -> SaveImageCased:
    return SaveImageCased(["pred", "added_detail", "uncertainty"], folder, allow_missing_keys=True, **more)


def names(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_results_are_written_with_their_own_geometry_and_values(tmp_path):
    saver(tmp_path / "out")(case())
    assert names(tmp_path / "out") == [
        "knee",
        "knee/knee_added_detail.nii.gz",
        "knee/knee_glade.nii.gz",
        "knee/knee_uncertainty.nii.gz",
    ]
    image = nibabel.load(tmp_path / "out/knee/knee_glade.nii.gz")
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), result().numpy()[0])
    for form, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(form, oblique_affine((0.8, 0.8, 0.8)), atol=1e-5)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        ("volume", ["knee_glade.nii.gz"]),
        (["added_detail", "report"], ["knee_added_detail.nii.gz", "knee_report.html"]),
        (["dicom"], ["knee_glade_dicom"]),
        (
            "all",
            [*(f"knee_{end}" for end in ("added_detail.nii.gz", "uncertainty.nii.gz", "glade.nii.gz", "glade_dicom")),
             "knee_report.html"],
        ),
    ],
)  # fmt: skip
def test_only_what_is_wanted_is_written(tmp_path, write, expected):
    def report(_, folder):
        (folder / "knee_report.html").write_text("x")

    saver(tmp_path, write=write, dicom_writer=Writer(), extra=report)(case(kind="dicom"))
    assert sorted(path.name for path in (tmp_path / "knee").iterdir()) == sorted(expected)


@pytest.mark.parametrize("write", ["", [], "volumes", ["volume", 3], None, {"volume": True}, 7])
def test_an_unknown_output_is_refused(write):
    with pytest.raises(Refusal, match=r"write must name what is wanted of volume, added_detail, .* got "):
        chosen_outputs(write)


def test_an_input_affine_in_the_meta_does_not_resample(tmp_path):
    d = case()
    d["pred"].meta.update(original_affine=np.diag([1.0, 1, 4, 1]), spatial_shape=(10, 10, 3))
    saver(tmp_path)(d)
    assert nibabel.load(tmp_path / "knee/knee_glade.nii.gz").shape == (12, 10, 14)


def test_a_missing_result_is_not_written(tmp_path):
    d = case()
    del d["uncertainty"]
    saver(tmp_path)(d)
    assert "knee/knee_uncertainty.nii.gz" not in names(tmp_path)


def test_it_is_known_to_the_platforms_as_a_saver(tmp_path):
    assert "SaveImage" in SaveImageCased.__name__
    assert isinstance(saver(tmp_path), SaveImaged)
    assert not (tmp_path / "knee").exists()


class Writer(ImageWriter):
    def __init__(self, error=None):
        super().__init__()
        self.error, self.calls = error, []

    def set_data_array(self, data_array, channel_dim=0, **kwargs):
        self.data_obj = data_array

    def set_metadata(self, meta_dict=None, resample=True, **options):
        self.source = meta_dict["source"]

    def write(self, filename, verbose=False, **kwargs):
        self.calls.append((self.data_obj.shape, self.source))
        filename.mkdir()
        (filename / "1.dcm").write_bytes(b"x")
        if self.error:
            raise self.error


def test_dicom_input_gives_a_derived_series_beside(tmp_path):
    writer = Writer()
    saver(tmp_path, dicom_writer=writer)(case(kind="dicom"))
    assert writer.calls == [((1, 12, 10, 14), VOLUME)]
    assert (tmp_path / "knee/knee_glade_dicom/1.dcm").is_file()
    saver(tmp_path, dicom_writer=writer)(case("other"))
    assert len(writer.calls) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), ValueError("x"), KeyboardInterrupt()])
def test_nothing_half_written_stays_when_writing_breaks(tmp_path, error):
    with pytest.raises(type(error)):
        saver(tmp_path, dicom_writer=Writer(error))(case(kind="dicom"))
    assert names(tmp_path) == []


def test_a_full_disk_gives_one_line_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # bytes a file may have: a disk that is full
    try:
        with pytest.raises(OSError, match="the result cannot be written to out: File too large") as caught:
            saver(tmp_path / "out")(case())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "out") == []


def test_an_unwritable_folder_gives_one_line(tmp_path):
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(OSError, match="the result cannot be written to out"):
        saver(tmp_path / "out")(case())


@pytest.mark.parametrize("can_link", [True, False])
def test_earlier_results_go_and_the_users_files_stay(tmp_path, monkeypatch, can_link):
    if not can_link:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    folder = tmp_path / "knee"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes/by_me.txt").write_text("mine")
    (folder / "link").symlink_to("notes")
    (folder / "knee_segmentation.nii.gz").write_text("mine too")
    for earlier in ("knee_report.html", "knee_uncertainty.nii.gz", "knee_glade.nii.gz"):
        (folder / earlier).write_text("of the earlier call")
    (folder / "knee_glade_dicom").mkdir()
    (folder / "knee_glade_dicom/IM1.dcm").write_text("of the earlier call")
    d = case()
    del d["uncertainty"]
    told = []
    saver(tmp_path, replacing=lambda *given: told.append((given, names(folder))) or [])(d)
    (((of, new), before),) = told
    assert (of, new) == (d["case"], ["knee_added_detail.nii.gz", "knee_glade.nii.gz"])
    assert "knee_report.html" in before
    assert names(folder) == [*new, "knee_segmentation.nii.gz", "link", "notes", "notes/by_me.txt"]
    assert (folder / "link").is_symlink()
    assert (folder / "notes/by_me.txt").read_text() == "mine"
    assert names(tmp_path)[0] == "knee"  # nothing hidden is left


def test_results_in_place_are_replaced_and_strange_files_are_kept(tmp_path):
    (tmp_path / "knee/knee_glade_dicom").mkdir(parents=True)
    (tmp_path / "knee/knee_glade_dicom/old.dcm").write_bytes(b"old")
    (tmp_path / "knee/knee.nii.gz").write_bytes(b"the input itself")
    (tmp_path / "knee/knee_glade.nii.gz").write_bytes(b"old")
    saver(tmp_path, dicom_writer=Writer())(case(kind="dicom"))
    assert (tmp_path / "knee/knee.nii.gz").read_bytes() == b"the input itself"
    assert names(tmp_path / "knee/knee_glade_dicom") == ["1.dcm"]
    assert nibabel.load(tmp_path / "knee/knee_glade.nii.gz").shape == (12, 10, 14)
    assert not [name for name in names(tmp_path) if "partial" in name]


def test_postfixes_must_match_the_keys(tmp_path):
    with pytest.raises(ValueError, match="as many as keys"):
        SaveImageCased("pred", tmp_path)


def test_a_packed_volume_is_read_by_others_and_the_same_every_time(tmp_path):
    import itk

    volume = MetaTensor(torch.rand(1, 7, 6, 5), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    volume[0, :3] = 0  # air
    for name in ("a", "b"):
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    image = itk.imread(str(tmp_path / "a.nii.gz"))
    assert np.array_equal(itk.array_from_image(image).transpose(), volume[0].numpy())
    assert list(image.GetSpacing()) == [2, 3, 4]
    with gzip.open(tmp_path / "a.nii.gz") as file:
        assert len(file.read()) == 352 + 4 * 7 * 6 * 5
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("coding", [None, WHOLE])
def test_a_volume_made_from_an_array_is_written_in_any_orientation(tmp_path, coding):
    coronal = np.array([[-1.3, 0, 0, 5], [0, 0, -6, 9], [0, -1.3, 0, 1], [0, 0, 0, 1.0]])
    volume = MetaTensor(100 * torch.rand(1, 7, 6, 5), affine=coronal)
    write_nifti(volume, tmp_path / "a.nii.gz", coding)
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == (np.float32 if coding is None else np.int16)
    expected = volume[0].numpy() if coding is None else volume[0].numpy().round()
    assert np.array_equal(np.asarray(image.dataobj), expected)
    for affine in (image.get_sform(), image.get_qform()):
        assert np.allclose(affine, coronal, atol=1e-5)


def test_a_file_can_be_kept_from_other_users(tmp_path):
    write_nifti(result(), tmp_path / "a.nii.gz", mode=0o600)
    assert (tmp_path / "a.nii.gz").stat().st_mode & 0o777 == 0o600


def scan(noise, low=0.0, high=1200.0, shape=(40, 40, 30)) -> MetaTensor:
    values = np.random.default_rng(2).uniform(low, high, size=(1, *shape)).astype(np.float32)
    values[0, :5] = max(low, 0)  # air of a masked scan
    return MetaTensor(torch.as_tensor(values), affine=torch.eye(4), meta={"noise": noise})


@pytest.mark.parametrize(
    ("noise", "low", "high"), [(17.8, 0, 1200), (0.3, -40, 900), (2e-4, 0, 1), (1.0, 20_000, 40_000), (1e6, -1e9, 1e9)]
)
def test_rounding_loses_less_than_a_tenth_of_the_noise(tmp_path, noise, low, high):
    import itk

    volume = scan(noise, low, high)
    write_nifti(volume, tmp_path / "a.nii.gz", coding_of_result(volume))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.int16
    exact, stored = volume[0].numpy().astype(float), image.get_fdata()
    lost = (stored - exact)[5:].std() / noise
    assert 0.09 < lost < 0.1005  # the deviation of so many random numbers is known to 0.2 %
    assert abs((stored - exact)[5:].mean()) / noise < 0.01
    if low <= 0:
        assert (stored[:5] == 0).all()  # air stays exactly 0
    others = itk.array_from_image(itk.imread(str(tmp_path / "a.nii.gz"), itk.F)).transpose()
    np.testing.assert_allclose(others, stored, atol=0.01 * noise)


@pytest.mark.parametrize("noise", [None, 0.0, float("nan"), 0.05])
def test_without_noise_or_with_a_huge_range_voxels_stay_float32(tmp_path, noise):
    volume = scan(noise)
    write_nifti(volume, tmp_path / "a.nii.gz", coding_of_result(volume))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(image.dataobj), volume[0].numpy())


@pytest.mark.parametrize(("highest", "dtype"), [(300.0, np.uint8), (90_000.0, np.uint16), (0.0, np.uint8)])
def test_the_uncertainty_is_rounded_up_and_never_down(tmp_path, highest, dtype):
    volume = scan(1.0, 0, 200) if highest else scan(1.0, 0, 0)
    volume[0, -1, 0] = highest  # of a few voxels; a coarse step would widen all the others
    write_nifti(volume, tmp_path / "a.nii.gz", coding_of_result(volume, "uncertainty"))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == dtype
    added = image.get_fdata() - volume[0].numpy()
    assert added.min() >= 0
    assert added.max() <= 1.001 * max(highest, 200 if highest else 0) / np.iinfo(dtype).max


def test_integers_out_of_range_are_clipped_not_wrapped():
    coding = IntegerCoding("int16", 2.0, 100.0)
    assert coding.encode(np.array([-1e9, 98, 1e9])).tolist() == [-32768, -1, 32767]


def test_volumes_of_other_names_are_written_as_they_are(tmp_path):
    d = {"case": Case("knee", ()), "pred": scan(5.0), "coverage": scan(5.0, 0, 3)}
    SaveImageCased(["pred", "coverage"], tmp_path, ["glade", "coverage"])(d)
    image = nibabel.load(tmp_path / "knee/knee_coverage.nii.gz")
    assert np.array_equal(image.get_fdata(dtype=np.float32), d["coverage"][0].numpy())
