import logging
from dataclasses import replace
from itertools import count

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from tqdm import tqdm

from scripts.data.transforms import geometry_of
from scripts.geometry.errors import Refusal
from scripts.geometry.progress import Progress
from scripts.learning import inferer as inferer_module
from scripts.learning.inferer import OrthogonalInferer, block_planes, body_box, window_count
from scripts.physics.acquisition import SliceGeometry
from tests.learning.test_generator import trained, trained_on_volumes


def interpolated(shape=(20, 26, 24)) -> MetaTensor:
    torch.manual_seed(1)
    slices = SliceGeometry(shape[-1], shape[-1] // 4, 4.0, 4.0, "rect", first_slice_voxels=1.5)
    return MetaTensor(torch.rand(1, 1, *shape), affine=torch.eye(4), meta={"slices": slices})


def inferer(**settings) -> OrthogonalInferer:
    return OrthogonalInferer(**{"views": (0, 1), "precision": "float32"} | settings)


def test_a_view_holds_its_in_plane_axis_and_the_through_plane_axis():
    volume, seen = interpolated(), []

    def network(x):
        seen.append(tuple(x.shape[1:]))
        return x[:, :1]

    with torch.no_grad():
        prediction = inferer()(volume, network)
    assert prediction.shape == (1, 2, 20, 26, 24)
    assert torch.allclose(prediction.as_tensor(), volume.as_tensor().expand(1, 2, -1, -1, -1))
    assert set(seen) == {(7, 20, 24), (7, 26, 24)}


def test_views_agree_with_planes_one_by_one():
    volume, network = interpolated(), trained()
    conditioning = torch.from_numpy(geometry_of(volume).conditioning()).float()
    with torch.no_grad():
        prediction = inferer(batch=3)(volume, network)[0].as_tensor()
        for x in (0, 7, 19):  # flipped; centred slices have the same conditioning
            plane = torch.cat([volume.as_tensor()[0, :, x].flip(-1), conditioning[:, None].expand(-1, 26, -1)])[None]
            assert torch.allclose(prediction[1, x], network(plane)[0, 0].flip(-1), atol=1e-5)
        for y in (0, 11, 25):
            plane = torch.cat([volume.as_tensor()[0, :, :, y], conditioning[:, None].expand(-1, 20, -1)])[None]
            assert torch.allclose(prediction[0, :, y], network(plane)[0, 0], atol=1e-5)


@pytest.mark.parametrize("first_slice_voxels", [1.5, 0.7])
def test_a_bias_to_one_side_of_the_slices_cancels_in_the_mean_of_the_views(first_slice_voxels):
    volume = interpolated()
    volume.meta["slices"] = replace(volume.meta["slices"], first_slice_voxels=first_slice_voxels)
    with torch.no_grad():
        views = inferer()(volume, lambda x: x[:, :1] + x[:, 2:3])[0].as_tensor()  # adds the sine of the slice phase
    assert (views[0] - volume[0, 0].as_tensor()).abs().max() > 0.5
    assert torch.allclose(views.mean(0), volume[0, 0].as_tensor(), atol=1e-5)


def test_rotated_planes_cut_the_volume_obliquely():
    x, y = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    ridge = torch.exp(-(((x - y) / 4) ** 2)) * torch.exp(-((x + y - 59) ** 2) / 300)  # along the diagonal, in air
    volume, seen = interpolated((60, 60, 24)), []
    volume[0, 0] = ridge[..., None]

    def network(shown):
        seen.append(float(shown[:, 0].std(dim=1).max()))  # along the planes' in-plane axis
        return 1.5 * shown[:, :1]

    straight = inferer()(volume, network)[0].as_tensor()
    strongest, seen[:] = max(seen), []
    rotated = inferer(rotations_deg=(0, 45))(volume, network)[0].as_tensor()
    assert rotated.shape == (4, 60, 60, 24)
    assert torch.allclose(rotated[:2], straight, atol=1e-6)
    assert (rotated[2:] - straight).abs().max() < 0.02  # what was added there is rotated back
    assert max(seen) > 1.2 * strongest  # a plane right across the ridge


@pytest.mark.parametrize("views", [(0,), (0, 1)])
def test_where_the_network_changes_nothing_no_rotation_does(views):
    volume = interpolated()
    prediction = inferer(views=views, rotations_deg=(0, 30, 45))(volume, lambda x: x[:, :1])
    assert prediction.shape == (1, 3 * len(views), 20, 26, 24)
    assert torch.allclose(prediction.as_tensor(), volume.as_tensor().expand(prediction.shape), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_size_does_not_change_the_result(batch):
    volume, network = interpolated(), trained()
    with torch.no_grad():
        reference = inferer(batch=8)(volume, network)
        assert torch.allclose(inferer(batch=batch)(volume, network).as_tensor(), reference.as_tensor(), atol=1e-5)


def test_windows_blend_to_the_volume_when_the_network_changes_nothing():
    volume = interpolated((33, 41, 37))
    prediction = inferer(window=(16, 16))(volume, lambda x: x[:, :1])
    assert torch.allclose(prediction[0, 0].as_tensor(), volume[0, 0].as_tensor(), atol=1e-5)


def test_air_outside_the_body_stays_as_interpolated():
    volume = interpolated((80, 90, 24))
    volume[:, :, :30] = 0
    volume[:, :, 50:] = 0
    bright = volume[0, 0].as_tensor() > 0.05
    assert body_box(bright.any(1)) == (slice(0, 80), slice(0, 24))
    assert body_box(bright) == (slice(0, 80), slice(0, 90), slice(0, 24))
    assert body_box(torch.nn.functional.pad(torch.ones(4, 5), [100, 90, 60, 70]) > 0) == (slice(32, 80), slice(80, 128))
    with torch.no_grad():
        prediction = inferer()(volume, lambda x: x[:, :1] + 1)[0].as_tensor()
    before = volume[0, 0].as_tensor()
    assert torch.equal(prediction[1, :24], before[:24])  # whole batches of planes without a body
    assert torch.allclose(prediction[1, 32:48], before[32:48] + 1)
    assert torch.allclose(prediction[0, 30:50], before[30:50] + 1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"views": ()}, "views"),
        ({"views": (2,)}, "views"),
        ({"views": (0, 0)}, "views"),
        ({"views": 1}, "views"),
        ({"rotations_deg": ()}, "rotations_deg"),
        ({"rotations_deg": 45}, "rotations_deg"),
        ({"rotations_deg": (0, 90)}, "rotations_deg"),
        ({"rotations_deg": (45, 45)}, "rotations_deg"),
        ({"rotations_deg": ("45",)}, "rotations_deg"),
        ({"rotations_deg": ([0, 45],)}, "rotations_deg"),
        ({"rotations_deg": (True,)}, "rotations_deg"),
        ({"window": (92,)}, "window"),
        ({"window": (0, 92)}, "window"),
        ({"window": 64}, "window must be two whole sizes"),
        ({"window": (64.5, 64)}, "window must be two whole sizes"),
        ({"window": "64"}, "window must be two whole sizes"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": "a"}, "overlap must be a number"),
        ({"batch": 0}, "batch"),
        ({"batch": "a"}, "batch must be a whole number"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_unknown_settings_are_refused(setting, words):
    with pytest.raises(Refusal, match=words):
        inferer(**setting)


def test_a_volume_without_slices_is_refused():
    with pytest.raises(Refusal, match="has no slice geometry"):
        inferer()(torch.rand(1, 1, 8, 8, 8), lambda x: x)


class Watched(torch.nn.Module):
    """A network that records how it was run."""

    def __init__(self, network, seen, folded=False):
        super().__init__()
        self.network, self.seen, self.is_folded = network, seen, folded
        self.spatial_dims = network.spatial_dims

    def folded(self):
        return Watched(self.network.folded(), self.seen, folded=True)

    def forward(self, x, *statistics):
        weight = self.network.trunk[0].first.weight
        planes = len(x) if x.dim() == 4 else x.shape[2]
        self.seen.append((self.is_folded, weight.is_contiguous(memory_format=torch.channels_last), planes))
        return self.network(x, *statistics)


def test_the_network_runs_folded_and_channels_last_and_keeps_no_gradient():
    volume, seen = interpolated(), []
    network = Watched(trained(), seen)
    fast = inferer(batch=8)(volume, network)
    assert {(folded, last) for folded, last, _ in seen} == {(True, True)}
    assert max(planes for _, _, planes in seen) <= 2  # more leave the cache of a CPU
    assert not fast.requires_grad
    seen.clear()
    plain = inferer(batch=8)(volume, lambda x: network(x))  # cannot be folded
    assert {folded for folded, _, _ in seen} == {False}
    assert torch.allclose(fast.as_tensor(), plain.as_tensor(), atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_the_box_around_the_body_does_not_depend_on_the_batch(batch):
    volume = interpolated((70, 41, 37))
    volume[..., :35, :] = 0
    volume[:, :, :20] = 0  # planes whose bodies differ in size

    def network(x):
        return x[:, :1] - x[:, :1].mean((2, 3), keepdim=True)  # depends on the extent of the box

    reference = inferer(batch=8)(volume, network).as_tensor()
    assert torch.allclose(inferer(batch=batch)(volume, network).as_tensor(), reference, atol=1e-6)


def test_a_generator_of_volumes_sees_each_view_as_a_whole():
    volume, network = interpolated(), trained_on_volumes()
    conditioning = torch.from_numpy(geometry_of(volume).conditioning()).float()
    with torch.no_grad():
        prediction = inferer()(volume, network)[0].as_tensor()
        for view, planes in ((0, volume[0, 0].as_tensor().transpose(0, 1)), (1, volume[0, 0].as_tensor().flip(-1))):
            shown = torch.cat([planes[None], conditioning[:, None, None].expand(-1, *planes.shape[:2], -1)])[None]
            expected = network(shown)[0, 0]
            expected = expected.flip(-1) if view else expected.transpose(0, 1)
            torch.testing.assert_close(prediction[view], expected, atol=1e-5, rtol=0)


def test_blocks_of_a_volume_agree_with_the_whole(monkeypatch):
    volume, network, seen = interpolated((70, 20, 24)), trained_on_volumes(), []
    whole = inferer(views=(1,))(volume, network).as_tensor()
    monkeypatch.setattr(inferer_module, "BLOCK_VOXELS", 20 * 24 * 40)
    blocks = inferer(views=(1,))(volume, Watched(network, seen)).as_tensor()
    assert [planes for _, _, planes in seen] == [40, 40, 40]
    added = (whole - volume.as_tensor()).abs().mean()
    assert not torch.equal(blocks, whole)  # near the ends of a block, planes beyond it are not seen
    assert (blocks - whole).abs().mean() < 0.01 * added


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_moves_while_a_volume_is_computed(monkeypatch, terminal):
    """Also where blocks and windows share a part, and to no more than the number of planes."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(inferer_module, "BLOCK_VOXELS", 16 * 24 * 40)
    shown, network = [], trained_on_volumes()
    monkeypatch.setattr(Progress, "update", lambda bar, n=1: shown.append(n) or tqdm.update(bar, n))
    with torch.no_grad():
        inferer(progress=True, window=(16, 24))(interpolated((70, 20, 24)), network)
    done = torch.tensor(shown).cumsum(0)
    assert done[-1] == 20 + 70
    assert min(shown) == 0
    assert max(shown) <= 5  # no step is a whole volume
    assert network.on_progress is None


def test_the_log_has_a_line_every_30_seconds_of_a_volume(monkeypatch, caplog):
    volume, network, seconds = interpolated((40, 20, 24)), trained_on_volumes(), count(step=10.0)
    monkeypatch.setattr("tqdm.std.time", lambda: next(seconds))
    with caplog.at_level(logging.INFO):
        inferer(views=(1,), progress=True)(volume, network)
    lines = [int(line.split()[1]) for line in caplog.messages if line.startswith("planes: ")]
    assert lines == sorted(lines)
    assert len({planes for planes in lines if 0 < planes < 40}) > 5


def test_windows_are_counted_as_monai_makes_them():
    for shape, window, overlap in (
        ((70, 20, 24), (40, 16, 24), (0.4, 0.25, 0.25)),
        ((33, 20, 48), (32, 7, 5), (0.5, 0.9, 0.0)),
        ((18, 20, 48), (18, 20, 48), (0, 0.25, 0.25)),
    ):
        calls = []
        slide = SlidingWindowInferer(window, 1, overlap=overlap)
        slide(torch.zeros(1, 1, *shape), lambda x, calls=calls: calls.append(1) or x)
        assert window_count(shape, window, overlap) == len(calls)


def test_a_block_is_bounded_but_holds_what_it_shares():
    assert block_planes(100, [100, 100]) == 100
    assert block_planes(1000, [400, 400]) * 400 * 400 <= inferer_module.BLOCK_VOXELS
    assert block_planes(1000, [4000, 4000]) == 2 * inferer_module.BLOCK_OVERLAP


def test_windows_of_a_volume_have_the_conditioning_of_their_columns():
    volume = interpolated((18, 20, 48))

    class Phase(torch.nn.Module):
        spatial_dims = 3

        def forward(self, x, statistics):
            return x[:, :1] + x[:, 2:3]  # the sine of the slice phase

    expected = volume.as_tensor()[0, 0] + torch.from_numpy(geometry_of(volume).conditioning()).float()[1]
    windows = inferer(views=(0,), window=(16, 16))(volume, Phase())
    torch.testing.assert_close(windows.as_tensor()[0, 0], expected, atol=1e-4, rtol=0)
