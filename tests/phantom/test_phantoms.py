import nibabel
import numpy as np
import pytest

from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.phantom.abdomen import abdomen, acquire, bladder, coronal_grid
from scripts.phantom.files import main, make_scan
from scripts.phantom.shapes import RandomField, Tube, ellipsoid


def cube(centre_mm, count: int = 8, spacing_mm: float = 1.5) -> Grid:
    """A small grid about a point of the body."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = np.asarray(centre_mm) - spacing_mm * (count - 1) / 2
    return Grid((count,) * 3, affine)


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    return abdomen(coronal_grid((48, 40, 9)))


def test_abdomen_depends_on_the_seed_alone(small):
    grid = coronal_grid((48, 40, 9))
    np.testing.assert_array_equal(abdomen(grid), small)
    other = abdomen(grid, seed=1)
    assert np.abs(other - small).mean() > 20


def test_abdomen_is_finite_float32_in_scanner_units(small):
    assert small.dtype == np.float32
    assert np.isfinite(small).all()
    assert small.min() >= 0
    assert 600 < small.max() < 1500
    assert (small[0] < 20).mean() > 0.5  # air beside the body


def test_abdomen_does_not_depend_on_chunks(monkeypatch):
    grid = cube((70, 0, 75), 12)
    whole = abdomen(grid)
    monkeypatch.setattr("scripts.phantom.abdomen.CHUNK_VOXELS", 300)
    np.testing.assert_allclose(abdomen(grid), whole, atol=0.5)


def test_abdomen_is_the_same_body_at_two_resolutions():
    fine_grid = coronal_grid((96, 96, 80), (144, 144, 120))
    coarse_grid = coronal_grid((48, 48, 40), (144, 144, 120))
    fine, coarse = abdomen(fine_grid), abdomen(coarse_grid)
    averaged = fine.reshape(48, 2, 48, 2, 40, 2).mean((1, 3, 5))
    assert np.corrcoef(averaged.ravel(), coarse.ravel())[0, 1] > 0.98
    assert np.abs(averaged - coarse).mean() < 0.06 * averaged.std() + 10
    assert abs(averaged.mean() / coarse.mean() - 1) < 0.01


def test_abdomen_follows_the_world_when_the_array_is_reoriented():
    grid = cube((70, -20, 60), 16, 2.0)
    reoriented = grid.affine @ np.array([[0, -1, 0, 15], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    expected = abdomen(grid)
    got = abdomen(Grid(grid.shape, reoriented))
    # voxel (a, b, c) of the reoriented array is voxel (15 - b, c, a) of the first
    a, b, c = np.indices(got.shape)
    np.testing.assert_allclose(got, expected[15 - b, c, a], atol=1.0)


def test_organs_have_the_contrast_after_gadolinium():
    aorta = abdomen(cube((-9, -10, 50), 3), shading=False)
    liver = abdomen(cube((95, 10, 60), 10), shading=False)
    kidney = abdomen(cube((70, -54, 34), 40), shading=False)
    urine = abdomen(cube((3, 24, -118), 8), shading=False)
    assert np.percentile(kidney, 90) > np.median(liver) + 150
    assert np.median(aorta) > np.median(liver) + 150
    assert np.median(liver) > np.median(urine) + 250


def test_details_reach_the_size_of_a_voxel():
    volume = abdomen(coronal_grid((100, 100, 64), (130, 130, 83.2)))
    power = np.abs(np.fft.rfft(volume * np.hanning(64), axis=2)).mean((0, 1)) ** 2
    middle, top = power[8:11].mean(), power[27:31].mean()  # 0.3 and 0.9 of the Nyquist frequency
    assert -25 < 10 * np.log10(top / middle) < -5  # real near-isotropic scans: -23 to -5 dB


def test_bladder_is_where_the_urine_is():
    grid = coronal_grid((64, 40, 48), (128, 80, 96))
    grid = Grid(grid.shape, grid.affine + np.array([[0, 0, 0, 3], [0, 0, 0, 24], [0, 0, 0, -118], [0, 0, 0, 0]]))
    share, volume = bladder(grid), abdomen(grid)
    assert share.min() == 0
    assert share.max() == 1
    assert 60e3 < share.sum() * np.prod(grid.spacing_mm) < 250e3  # mm3
    border = np.linalg.norm(np.gradient(share), axis=0) > 0.3
    assert np.median(volume[share == 1]) < 150
    assert np.median(volume[border & (share < 0.5)]) > 200


def test_acquire_gives_slices_on_the_same_field_of_view():
    grid = coronal_grid((24, 20, 45), (36, 30, 67.5))
    volume = np.full(grid.shape, 100, np.float32)
    for profile in ("rect", "gauss", "fourier"):
        slices, thick = acquire(volume, grid, 6.0, 5.0, profile)
        assert slices.shape == thick.shape == (24, 20, 11)
        np.testing.assert_allclose(thick.spacing_mm, [1.5, 1.5, 6.0])
        np.testing.assert_allclose(thick.centre_mm, grid.centre_mm, atol=1e-9)
        np.testing.assert_allclose(slices, 100, rtol=1e-5)


def test_acquire_keeps_the_position_of_a_plane():
    grid = coronal_grid((4, 4, 60), (4, 4, 60))
    volume = np.zeros(grid.shape, np.float32)
    volume[:, :, 40] = 1
    slices, thick = acquire(volume, grid, 5.0, 5.0, "rect")
    nearest = int(slices[0, 0].argmax())
    assert abs(thick.world_mm((0, 0, nearest))[1] - grid.world_mm((0, 0, 40))[1]) <= 2.5


def test_acquire_adds_the_noise_of_the_seed():
    grid = coronal_grid((32, 32, 20), (32, 32, 20))
    volume = np.full(grid.shape, 500, np.float32)
    slices, _ = acquire(volume, grid, 4.0, 4.0, "rect", noise_sigma=10, seed=3)
    again, _ = acquire(volume, grid, 4.0, 4.0, "rect", noise_sigma=10, seed=3)
    other, _ = acquire(volume, grid, 4.0, 4.0, "rect", noise_sigma=10, seed=4)
    np.testing.assert_array_equal(slices, again)
    assert (slices != other).any()
    assert slices.std() == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(("spacing", "thickness"), [(0, 5), (-1, 5), (6, 0), (1000, 5)])
def test_acquire_refuses_impossible_slices(spacing, thickness):
    grid = coronal_grid((8, 8, 30), (8, 8, 30))
    with pytest.raises(Refusal, match="mm"):
        acquire(np.zeros(grid.shape, np.float32), grid, spacing, thickness)


def test_acquire_refuses_a_volume_of_another_grid():
    with pytest.raises(Refusal, match="grid"):
        acquire(np.zeros((8, 8, 9), np.float32), coronal_grid((8, 8, 30)), 6, 6)


def test_files_hold_scan_and_truth_in_one_world(tmp_path):
    assert main([str(tmp_path), "--shape", "24", "20", "30", "--spacing_mm", "3", "--seed", "2", "--bladder"]) == 0
    scan = nibabel.load(tmp_path / "scans" / "phantom.nii.gz")
    truth = nibabel.load(tmp_path / "truth" / "phantom_truth.nii.gz")
    assert scan.shape == (24, 20, 15)
    assert nibabel.aff2axcodes(scan.affine) == ("L", "I", "P")
    expected = make_scan((24, 20, 30), spacing_mm=3, seed=2)
    np.testing.assert_allclose(scan.get_fdata(), expected.slices, atol=0.5)
    np.testing.assert_allclose(truth.get_fdata(), expected.truth)
    np.testing.assert_allclose(scan.affine, expected.slices_grid.affine, atol=1e-4)
    assert (tmp_path / "truth" / "phantom_bladder.nii.gz").exists()


def test_command_refuses_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path), "--shape", "8", "8", "8", "--slice_spacing_mm", "900"]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_random_field_on_a_block_is_the_field_at_its_points():
    field = RandomField.draw(np.random.default_rng(0), 20, 40, 80)
    affine = np.array([[0, 0.3, -0.8, 5], [1, 0, 0, -7], [0, 0.8, 0.3, 2], [0, 0, 0, 1.0]])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (5, 6, 7)), indexing="ij"), -1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(field.on((5, 6, 7), affine), field.at(points), atol=0.01)


def test_ellipsoid_distance_is_that_of_a_sphere():
    x, y, z = np.random.default_rng(1).uniform(-20, 20, size=(3, 100))
    np.testing.assert_allclose(ellipsoid(x, y, z, (9, 9, 9)), np.sqrt(x**2 + y**2 + z**2) - 9, atol=1e-9)


def test_joined_tubes_keep_every_piece():
    one = Tube.along(np.array([(0, 0, 0), (3, 4, 0), (3, 4, 5)]), 2.0)
    assert len(Tube.joined([one, one]).starts_mm) == 4
    np.testing.assert_allclose(one.arcs_mm, [[0, 5], [5, 10]])
