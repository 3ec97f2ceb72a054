import numpy as np
import pytest
from matplotlib import image as mpimg

from scripts.geometry.errors import Refusal
from scripts.reports.figures import VIEWS, compare_views, plane, robust_window

LIP = np.array([[-1.0, 0, 0, 10], [0, 0, -4.0, 20], [0, -2.0, 0, 30], [0, 0, 0, 1]])  # to left, foot and back


def marked(world_mm) -> tuple[np.ndarray, np.ndarray]:
    """A dark LIP volume with one bright voxel at a world position."""
    array = np.zeros((20, 30, 10), np.float32)
    index = np.linalg.inv(LIP) @ [*world_mm, 1]
    array[tuple(np.rint(index[:3]).astype(int))] = 1
    return array, LIP


def test_plane_hangs_the_right_side_on_the_left_and_the_head_on_top():
    image, size = plane(marked((9, 0, 28)), "coronal", (0, 0, 0))  # right, high
    row, column = np.argwhere(image)[0]
    assert row < image.shape[0] / 2
    assert column < image.shape[1] / 2
    assert size == pytest.approx((2, 1))


def test_plane_hangs_anterior_left_in_sagittal_and_on_top_in_axial():
    volume = marked((0, 16, 10))
    sagittal, size = plane(volume, "sagittal", (0, 0, 0))
    assert np.argwhere(sagittal)[0][1] < sagittal.shape[1] / 2
    assert size == pytest.approx((2, 4))
    axial, size = plane(volume, "axial", (0, 0, 10))
    assert np.argwhere(axial)[0][0] < axial.shape[0] / 2
    assert size == pytest.approx((4, 1))


def test_plane_goes_through_the_point():
    for view in VIEWS:
        image, _ = plane(marked((3, 4, 6)), view, (3, 4, 6))
        assert image.sum() == 1


def test_robust_window_ignores_background_and_specks():
    values = np.concatenate([np.zeros(5000), np.random.default_rng(0).normal(500, 50, 5000), [1e5]])
    low, high = robust_window(values)
    assert 300 < low < 450
    assert 550 < high < 700
    assert robust_window(np.zeros(10)) == (0, 1)


def test_compare_views_writes_a_picture_of_rows_and_columns(tmp_path):
    rng = np.random.default_rng(0)
    thick = (rng.uniform(0, 100, (20, 30, 10)), LIP)
    thin_affine = LIP.copy()
    thin_affine[:, 2] /= 4
    thin = (rng.uniform(0, 100, (20, 30, 40)), thin_affine)
    one = compare_views({"input": thick}, tmp_path / "a" / "one.png")
    three = compare_views(
        {"input": thick, "result": thin, "added detail": thin},
        tmp_path / "three.png",
        windows={"added detail": (-20, 20)},
        colour_maps={"added detail": "RdBu_r"},
        window_of="result",
        field_mm=30,
        point_mm=(1, 2, 3),
        title="phantom",
    )
    small, large = mpimg.imread(one), mpimg.imread(three)
    assert small.std() > 0.05
    assert large.shape[0] > 300
    assert large.shape[1] > 300


def test_compare_views_keeps_the_physical_aspect(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.imshow", lambda _, image, **how: drawn.append((image.shape, how)))
    compare_views({"input": (np.ones((20, 30, 10)), LIP)}, tmp_path / "x.png")
    for (rows, columns), how in drawn:
        left, right, bottom, top = how["extent"]
        assert how["interpolation"] == "nearest"
        assert how["aspect"] == "equal"
        assert (top - bottom) / rows in (pytest.approx(2), pytest.approx(4))
        assert (right - left) / columns in (pytest.approx(1), pytest.approx(4))


@pytest.mark.parametrize(
    ("volumes", "options"),
    [
        ({}, {}),
        ({"a": (np.zeros((3, 3)), LIP)}, {}),
        ({"a": (np.full((3, 3, 3), np.nan), LIP)}, {}),
        ({"a": (np.zeros((3, 3, 3)), LIP)}, {"window_of": "b"}),
        ({"a": (np.zeros((3, 3, 3)), LIP)}, {"windows": {"b": (0, 1)}}),
    ],
)
def test_compare_views_refuses(tmp_path, volumes, options):
    with pytest.raises(Refusal, match="compare_views"):
        compare_views(volumes, tmp_path / "x.png", **options)
    assert not (tmp_path / "x.png").exists()
