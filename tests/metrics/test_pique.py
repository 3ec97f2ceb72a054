import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from pypiqe import piqe as pypiqe
from scipy import ndimage

from scripts.geometry.errors import Refusal
from scripts.metrics.pique import pique, pique_of_planes, shared_window
from tests.metrics.oracles import tissue

TOLERANCE = 1e-2  # of a score from 0 to 100


def score(plane, window=None):
    return float(pique(torch.as_tensor(np.ascontiguousarray(plane))[None, None], window).score)


def synthetic():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:93, 0:117].astype(float)
    disc = 200.0 * (np.hypot(x - 60, y - 40) < 30) + 20
    return {
        "ramp": x,
        "checkerboard": 100.0 * ((x // 5 + y // 7) % 2) + 10,
        "disc": disc,
        "noisy disc": disc + rng.normal(0, 8, disc.shape).clip(-20),
        "noise, one block": rng.uniform(0, 255, (16, 16)),
        "waves": 90 + 80 * np.sin(x / 3) * np.cos(y / 4),
        "speckle, odd size": rng.gamma(2, 40, (201, 35)),
        "blocks of compression": np.kron(rng.uniform(0, 255, (12, 15)), np.ones((8, 8))),
        "one column": np.where(x == 39, 200.0, 0.0),
        "with negatives": rng.normal(0, 30, (48, 50)),
    }


@pytest.mark.parametrize("name", synthetic())
def test_pique_equals_pypiqe_on_synthetic_planes(name):
    plane = synthetic()[name]
    theirs, artefact, noise, activity = pypiqe(plane)
    ours = pique(torch.from_numpy(plane)[None, None])
    assert float(ours.score) == pytest.approx(theirs, abs=TOLERANCE)
    for mask, expected in ((ours.activity, activity), (ours.artefact, artefact), (ours.noise, noise)):
        np.testing.assert_array_equal(mask[0, 0].numpy(), expected)


@given(st.integers(16, 70), st.integers(16, 70), st.floats(0, 4), st.floats(0, 60), st.integers(0, 10**6))
def test_pique_equals_pypiqe_on_random_planes(height, width, blur, noise, seed):
    rng = np.random.default_rng(seed)
    plane = ndimage.gaussian_filter(rng.uniform(0, 200, (height, width)), blur) + noise * rng.uniform(
        size=(height, width)
    )
    assert score(plane) == pytest.approx(pypiqe(plane)[0], abs=TOLERANCE)


SCANS = ["iso_brain_t1_uih", "iso_knee_t1_fair", "aniso_pelvis_t2_prostatex0218sag", "aniso_abdomen_gre_ukat-ge"]


@pytest.mark.parametrize("name", SCANS)
def test_pique_equals_pypiqe_on_crops_of_real_scans(shared_data, name):
    volume = np.asarray(nibabel.load(shared_data / "benchmark" / f"{name}.nii.gz").dataobj, dtype=float)
    rng = np.random.default_rng(0)
    for _ in range(8):
        planes = np.moveaxis(volume, rng.integers(3), 0)
        plane = planes[rng.integers(planes.shape[0])]
        sizes = [rng.integers(16, size + 1) for size in plane.shape]
        starts = [rng.integers(0, total - size + 1) for total, size in zip(plane.shape, sizes, strict=True)]
        crop = plane[tuple(slice(a, a + b) for a, b in zip(starts, sizes, strict=True))]
        if crop.max() > 0:
            assert score(crop) == pytest.approx(pypiqe(np.ascontiguousarray(crop))[0], abs=TOLERANCE)


def test_pique_of_a_batch_is_that_of_each_plane():
    planes = torch.from_numpy(tissue((30, 50, 61)))[:, None]
    together = pique(planes)
    assert together.score.shape == (30,)
    assert together.noise.shape == planes.shape
    alone = torch.cat([pique(plane[None]).score for plane in planes])
    torch.testing.assert_close(together.score, alone)
    torch.testing.assert_close(pique(MetaTensor(planes)).score, together.score)
    assert type(pique(MetaTensor(planes)).score) is torch.Tensor


@pytest.mark.parametrize("value", [0.0, 80.0, -3.0])
@pytest.mark.parametrize("window", [None, (0.0, 255.0)])
def test_pique_of_a_constant_plane_is_100(value, window):
    result = pique(torch.full((2, 1, 20, 33), value), window)
    assert result.score.tolist() == [100, 100]
    assert not result.activity.any()


def test_pique_depends_on_the_window_and_in_one_window_not_on_scale_and_offset():
    plane = tissue((1, 64, 64))[0]
    assert score(plane, (0, 1200)) != score(plane, (0, 12000))
    assert score(3 * plane + 100, (100, 3700)) == pytest.approx(score(plane, (0, 1200)), abs=TOLERANCE)
    assert score(plane) == pytest.approx(score(plane, (0, plane.max())), abs=TOLERANCE)


def test_shared_window_comes_from_the_reference_and_its_body():
    volume = np.zeros((20, 20, 20))
    volume[5:15, 5:15, 5:15] = np.arange(1000).reshape(10, 10, 10)
    low, high = shared_window(volume, volume > 0)
    assert low == 0
    assert high == pytest.approx(994, abs=3)
    with pytest.raises(Refusal, match="empty window"):
        shared_window(np.ones((8, 8, 8)))


def test_pique_of_planes_skips_planes_without_body():
    volume = tissue((20, 32, 40))
    mask = np.ones(volume.shape, bool)
    mask[:5] = False
    expected = pique(torch.from_numpy(volume[5:])[:, None], (0, 1000)).score
    np.testing.assert_allclose(pique_of_planes(volume, 0, (0, 1000), mask), expected)
    assert pique_of_planes(volume, 1).shape == (32,)


def test_pique_of_unusable_input_is_refused():
    plane = torch.rand(1, 1, 20, 20)
    cases = [
        (lambda: pique(torch.rand(1, 1, 15, 40)), "smaller than one 16 x 16 block"),
        (lambda: pique(torch.rand(1, 3, 20, 20)), r"must be a tensor \(N, 1, H, W\)"),
        (lambda: pique(torch.rand(20, 20)), r"must be a tensor \(N, 1, H, W\)"),
        (lambda: pique(np.zeros((1, 1, 20, 20))), r"must be a tensor \(N, 1, H, W\)"),
        (lambda: pique(torch.full_like(plane, float("nan"))), "not finite"),
        (lambda: pique(plane.masked_fill(plane > 0.9, float("inf"))), "not finite"),
        (lambda: pique(plane - 5), "no positive value"),
        (lambda: pique(plane, (3.0, 3.0)), "is empty"),
        (lambda: pique_of_planes(np.zeros((20, 20, 12)), 0), "smaller than one 16 x 16 block"),
        (lambda: pique_of_planes(np.zeros((20, 20, 20)), 3), "axis 3"),
        (lambda: pique_of_planes(np.zeros((20, 20, 20)), 0, mask=np.zeros((20, 20, 20))), "mask is empty"),
    ]
    for action, fact in cases:
        with pytest.raises(Refusal, match=fact):
            action()
