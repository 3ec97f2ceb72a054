import numpy as np
import pytest
import torch
from monai.data import DataLoader, DistributedSampler, MetaTensor
from monai.transforms import Compose

from scripts.data.acceptance import ScanProtocol
from scripts.data.case import Case
from scripts.geometry.errors import Refusal
from scripts.learning.patches import (
    REACH,
    Alternating,
    RandBlurredPatchd,
    RandSharpPatchd,
    RandSharpVolumePatchd,
    UnpairedPatches,
    load_scans,
    near_isotropic,
    own_protocol,
)
from scripts.physics.measurement import Measurement
from scripts.physics.profile import PROFILES, profile_weights


def scan(shape, spacing, thickness_mm=None, fill=None) -> MetaTensor:
    voxels = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) if fill is None else fill
    meta = {}
    if max(spacing) > 1.25 * min(spacing):
        thickness_mm = thickness_mm or spacing[2]
        meta = {"protocol": ScanProtocol(2, spacing[2], thickness_mm, "rect", "", "", "")}
    volume = MetaTensor(voxels, meta=meta)
    volume.affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    return volume


def coordinate_scan(shape, spacing, axis) -> MetaTensor:
    """Each voxel holds its index along one axis."""
    ramp = torch.arange(float(shape[axis])).reshape([-1 if a == axis else 1 for a in range(3)])
    return scan(shape, spacing, fill=1 + ramp.expand(shape)[None].clone())


def test_a_scan_that_is_refused_within_a_compose_does_not_stop_the_training(caplog):
    def refuse_few(data):
        if data["case"].name == "few":
            raise Refusal("few.nii.gz: 3 slices")
        if data["case"].name == "broken":
            raise KeyError("broken")
        return data

    few, many, broken = (Case(name, ()) for name in ("few", "many", "broken"))
    assert load_scans([few, many], Compose([refuse_few])) == [many.as_item()]
    assert "left out: few.nii.gz: 3 slices" in caplog.text
    with pytest.raises(Refusal, match=r"no scan is left to train on, .* \(few.nii.gz: 3 slices\)"):
        load_scans([few], Compose([refuse_few]))
    with pytest.raises(RuntimeError):
        load_scans([broken], Compose([refuse_few]))  # any other error is not hidden


def test_sharp_patches_of_a_thick_scan_lie_in_acquired_slices():
    volume = coordinate_scan((40, 50, 9), (1.0, 1.0, 5.0), axis=2)
    draw = RandSharpPatchd("image", (24, 24))
    for seed in range(20):
        draw.set_random_state(seed)
        patch = draw({"image": volume})["sharp"]
        assert patch.shape == (1, 24, 24)
        assert len(patch.unique()) == 1  # one slice, not across slices


def test_volume_patches_come_in_every_orientation_and_keep_neighbours_together():
    shape = (30, 34, 38)
    corner = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    code = 1 + corner[0] + 100 * corner[1] + 10_000 * corner[2]
    volume = scan(shape, (1.0, 1.0, 1.0), fill=code[None])
    draw, seen = RandSharpVolumePatchd("image", (6, 12, 16)), set()
    for seed in range(600):
        draw.set_random_state(seed)
        patch = draw({"image": volume})["sharp"][0]
        steps = [float(patch.diff(dim=axis).unique()) for axis in range(3)]  # one value: a straight window
        assert sorted(map(abs, steps)) == [1, 100, 10_000]
        seen.add(tuple(steps))
    assert len(seen) == 48


def test_volume_patches_are_turned_and_shrunk():
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    volume = scan((60, 60, 60), (1.0, 1.0, 1.0), fill=(rows + 2 * columns)[None, None].expand(1, 60, 60, 60) / 100 + 1)
    draw, slopes = RandSharpVolumePatchd("image", (8, 16, 20), zoom_out=1.6), []
    for seed in range(40):
        draw.set_random_state(seed)
        patch = draw({"image": volume})["sharp"][0]
        assert patch.shape == (8, 16, 20)
        inner = patch[2:-2, 4:-4, 4:-4]
        slopes.append(sum(float(inner.diff(dim=axis).mean()) ** 2 for axis in range(3)) ** 0.5 * 100)
    unturned = [slope for slope in slopes if slope == pytest.approx(5**0.5, rel=1e-3)]
    assert 10 < len(unturned) < 30
    others = [slope for slope in slopes if slope not in unturned]
    assert all(5**0.5 * 1.2 < slope < 5**0.5 * 1.65 for slope in others)  # from the root of 1.6 to 1.6, by axis


def test_no_volume_is_drawn_from_thick_slices():
    with pytest.raises(Refusal, match="near-isotropic scans alone"):
        RandSharpVolumePatchd("image", (4, 12, 12))({"image": scan((40, 50, 12), (1.0, 1.0, 5.0))})


def test_no_planes_are_held_back_from_volumes():
    with pytest.raises(Refusal, match=r"held_planes \[0.4, 0.6\]: .* hold back persons with --held_back"):
        RandSharpVolumePatchd("image", (4, 12, 12), held_planes=[0.4, 0.6])


def test_sharp_patches_of_a_near_isotropic_scan_come_from_all_directions():
    volume = coordinate_scan((40, 50, 45), (1.0, 1.0, 1.1), axis=2)
    draw, across = RandSharpPatchd("image", (24, 24)), 0
    for seed in range(40):
        draw.set_random_state(seed)
        across += len(draw({"image": volume})["sharp"].unique()) > 1
    assert 15 < across < 38  # two of three directions hold the last axis


@pytest.mark.parametrize("shape", [(128, 128, 9), (20, 17, 6), (16, 200, 40)])
def test_small_volumes_give_whole_patches(shape):
    volume = scan(shape, (3.0, 3.0, 5.5))
    for draw in (RandSharpPatchd("image", (92, 92)), RandBlurredPatchd("image", (92, 92))):
        draw.set_random_state(0)
        out = draw({"image": volume})
        assert out.get("sharp", out.get("blurred")).shape == (1, 92, 92)


@pytest.mark.parametrize("factor", [2.0, 4.615, 8.3])
@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.2])
def test_a_blurred_patch_agrees_with_a_simulation_of_its_acquisition(factor, ratio):
    # a smooth truth, acquired; the patch of the scan must agree with a simulation from the window of the truth
    def truth(z):
        return 2 + np.sin(2 * np.pi * z / (9 * factor)) + 0.3 * np.cos(2 * np.pi * z / (5 * factor))

    n, columns = 40, 60
    fine = (np.arange(n * 1000) + 0.5) * factor / 1000 - 0.5  # a thousand samples a slice: the rect's own average
    slices = [
        truth(fine[np.abs(fine - c) < ratio * factor / 2]).mean() for c in factor / 2 - 0.5 + factor * np.arange(n)
    ]
    volume = torch.tensor(slices, dtype=torch.float32).expand(1, 30, 31, n).clone()
    volume = scan((30, 31, n), (1.0, 1.0, factor), ratio * factor, volume)
    draw = RandBlurredPatchd("image", (16, columns))
    starts = np.arange(0, n * factor - columns, 0.05)[:, None]
    windows = truth(starts + np.arange(columns))
    windows = torch.from_numpy(np.concatenate([windows, windows[:, ::-1]])).float()
    for seed in range(6):
        draw.set_random_state(seed)
        out = draw({"image": volume})
        names = ("blurred", "blurred_conditioning", "blurred_projector", "blurred_determined")
        m = Measurement.from_batch({name: out[name][None] for name in names}, torch.device("cpu"))
        row = m.image[0, 0, 8]
        window = windows[(windows - row).abs().mean(1).argmin()]  # where on the truth the patch was drawn
        assert float((window - row).abs().mean()) < 0.15
        assert float(m.correction(window.expand(1, 1, 16, columns))[..., 5:-5].abs().max()) < 0.05
        assert float(m.correction(m.project(torch.rand(1, 1, 16, columns))).abs().max()) < 1e-3


@pytest.mark.parametrize(("processes", "items"), [(1, 26), (2, 26), (2, 23), (3, 25)])
def test_a_batch_comes_from_one_dataset_in_every_process(monkeypatch, processes, items):
    monkeypatch.setattr("scripts.learning.patches.idist.get_world_size", lambda: processes)
    data = Alternating([["volume"] * items, ["plane"] * items], batch_size=2)
    seen = set()
    for rank in range(processes):
        sampler = DistributedSampler(data, even_divisible=True, num_replicas=processes, rank=rank, shuffle=False)
        batches = list(DataLoader(data, batch_size=2, sampler=sampler, drop_last=True))
        assert all(len(set(batch)) == 1 for batch in batches)
        seen.add(tuple(batch[0] for batch in batches))
    assert seen == {(("volume", "plane") * items)[: items // (2 * processes)]}


@pytest.mark.parametrize("profile", PROFILES)
def test_little_of_a_slice_lies_beyond_its_reach(profile):
    assert REACH.keys() == set(PROFILES)
    distance = np.arange(-50_000, 50_001) / 10  # thousandths of the thickness, 10 samples each
    weights = np.abs(profile_weights(distance, 1000.0, profile))
    beyond = weights[distance > 1000 * REACH[profile]].sum() / weights.sum()
    assert beyond < 0.025
    assert profile == "fourier" or beyond < 0.01


def test_blurred_patches_avoid_air():
    voxels = torch.zeros(1, 60, 60, 30)
    voxels[:, 20:40, 20:40] = 1
    draw = RandBlurredPatchd("image", (24, 24))
    shares = []
    for seed in range(30):
        draw.set_random_state(seed)
        shares.append(
            float((draw({"image": scan((60, 60, 30), (1.0, 1.0, 4.0), fill=voxels)})["blurred"] > 0.1).float().mean())
        )
    assert np.mean(shares) > 0.3


def dataset(**settings) -> UnpairedPatches:
    scans = [{"image": scan((60, 60, 12), (1.0, 1.0, 4.0))}, {"image": scan((40, 40, 40), (1.0, 1.0, 1.0))}]
    blurred, sharp = RandBlurredPatchd("image", (24, 24)), RandSharpPatchd("image", (24, 24))
    return UnpairedPatches(scans, blurred, sharp, **{"patches": 10, "seed": 3} | settings)


def test_an_item_depends_on_seed_epoch_and_number_alone():
    first, second = dataset(), dataset()
    _ = [second[i] for i in (5, 1, 9)]  # other draws before make no difference
    assert torch.equal(first[4]["sharp"], second[4]["sharp"])
    assert torch.equal(first[4]["blurred"], second[4]["blurred"])
    second.set_epoch(2)
    assert not torch.equal(first[4]["sharp"], second[4]["sharp"])
    assert not torch.equal(first[4]["sharp"], dataset(seed=4)[4]["sharp"])
    assert len(first) == 10


def test_items_are_plain_tensors():
    assert all(type(value) is torch.Tensor for value in dataset()[0].values())


def test_no_thick_scan_is_refused_where_domain_x_is_needed():
    scans = [{"image": scan((40, 40, 40), (1.0, 1.0, 1.0))}]
    sharp = RandSharpPatchd("image", (24, 24))
    with pytest.raises(Refusal, match="domain X is empty"):
        UnpairedPatches(scans, RandBlurredPatchd("image", (24, 24)), sharp)
    assert set(UnpairedPatches(scans, None, sharp)[0]) == {"sharp", "augmented"}
    for patches in (0, 2.5):
        with pytest.raises(Refusal, match=f"patches_per_epoch .* must be whole numbers from 1, got {patches}"):
            UnpairedPatches(scans, None, sharp, patches=patches)


def drawn(volume, seeds, zoom_out) -> list[torch.Tensor]:
    draw, patches = RandSharpPatchd("image", (40, 40), zoom_out=zoom_out), []
    for seed in range(seeds):
        draw.set_random_state(seed)
        patches.append(draw({"image": volume})["sharp"])
    return patches


def test_half_of_the_patches_are_rotated_and_shrunk():
    ramp = coordinate_scan((120, 120, 110), (1.0, 1.0, 1.0), axis=0)
    patches = [patch for patch in drawn(ramp, 90, 1.6) if patch.max() - patch.min() > 1e-3]  # those along the ramp
    steepness = [[float(step.diff(dim=axis).median().abs()) for axis in (1, 2)] for step in patches]
    upright = [min(both) < 1e-6 and np.isclose(max(both), 1) for both in steepness]
    assert 0.3 < np.mean(upright) < 0.7
    rotated = np.array([both for both, plain in zip(steepness, upright, strict=True) if not plain])
    # a step of z of the plane along each axis: (z_rows cos)^2 + (z_columns sin)^2, z from sqrt(1.6) to 1.6
    assert np.all((np.hypot(*rotated.T) > 1.6**0.5 - 0.05) & (np.hypot(*rotated.T) < 1.6 + 0.05))
    assert np.ptp(np.arctan2(*rotated.T)) > 1  # by any angle: from along the rows to along the columns
    assert all(patch.shape == (1, 40, 40) for patch in patches)
    with pytest.raises(Refusal, match="zoom_out"):
        RandSharpPatchd("image", (40, 40), zoom_out=0.9)


def test_rotated_patches_keep_the_detail_that_their_pixels_hold():
    # a cosine along one axis, 6 voxels a period: 3.8 to 4.7 pixels in a rotated patch; linear interpolation loses it
    shape = (150, 150, 150)
    wave = torch.cos(2 * torch.pi * torch.arange(150.0) / 6).reshape(-1, 1, 1)
    volume = scan(shape, (1.0, 1.0, 1.0), fill=2 + wave.expand(shape)[None].clone())
    across = [patch for patch in drawn(volume, 60, 1.6) if patch.std() > 0.1]
    assert len(across) > 20
    assert min(float(patch.std()) for patch in across) > 0.9 * 0.5**0.5


def test_a_plane_smaller_than_a_rotated_patch_is_continued_by_its_mirror_image():
    volume = 1 + scan((20, 17, 30), (1.0, 1.0, 1.0))
    for patch in drawn(volume, 30, 1.6):
        assert patch.shape == (1, 40, 40)
        assert float(patch.min()) > 0.5  # no border of zeros


def test_a_rotated_patch_needs_only_the_part_of_the_plane_around_it(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    volume = scan((150, 130, 110), (1.0, 1.0, 1.0), fill=1 + torch.rand(1, 150, 130, 110, generator=generator))
    part = drawn(volume, 20, 1.6)
    monkeypatch.setattr("scripts.learning.patches.SPLINE_REACH", 1000)
    for some, whole in zip(part, drawn(volume, 20, 1.6), strict=True):
        assert torch.allclose(some, whole, atol=1e-4)


@pytest.mark.parametrize("count", [2, 5, 9, 40])
def test_held_back_planes_are_never_drawn_for_training(count):
    volume = coordinate_scan((40, 50, count), (1.0, 1.0, 5.0), axis=2)
    seen = {}
    for held in (False, True):
        draw = RandSharpPatchd("image", (24, 24), held_planes=(0.4, 0.6), held=held)
        draw.set_random_state(0)
        seen[held] = {int(draw({"image": volume})["sharp"][0, 0, 0]) for _ in range(200)}
    assert seen[False] | seen[True] == set(range(1, count + 1))
    assert not seen[False] & seen[True]
    assert len(seen[True]) == max(1, round(0.2 * count))


@pytest.mark.parametrize("shape", [(40, 40, 40), (20, 24, 22)])
def test_no_voxel_of_a_held_back_plane_of_a_near_isotropic_scan_is_drawn_for_training(shape):
    volume = scan(shape, (1.0, 1.0, 1.0), fill=torch.arange(1.0, 1 + np.prod(shape)).reshape(1, *shape))
    seen = {}
    for held in (False, True):
        draw = RandSharpPatchd("image", (16, 16), held_planes=(0.4, 0.6), held=held)
        draw.set_random_state(1)
        seen[held] = set().union(*(draw({"image": volume})["sharp"].flatten().tolist() for _ in range(100)))
    assert not seen[False] & seen[True]


@pytest.mark.parametrize("count", [5, 10, 100])
def test_a_block_that_ends_at_the_last_plane_holds_it_back(count):
    held, drawn = (
        RandSharpPatchd("image", (4, 4), held_planes=(0.9, 1.0), held=held)._planes(count) for held in (True, False)
    )
    assert count - 1 in held
    assert count - 1 not in drawn
    assert sorted([*held, *drawn]) == list(range(count))
    assert len(held) == max(1, count // 10)


def test_volumes_need_near_isotropic_scans():
    thick, near = scan((40, 50, 9), (1.0, 1.0, 5.0)), scan((9, 9, 9), (2, 2, 2.0))
    assert near_isotropic([{"image": thick}, {"image": near}]) == [{"image": near}]
    with pytest.raises(Refusal, match="none of 1 scan is near-isotropic"):
        near_isotropic([{"image": thick}])


def test_own_protocol_is_what_the_scans_were_acquired_by():
    scans = [{"image": scan((40, 50, 9), (1.0, 1.0, 5.0), thickness_mm=4.0)}, {"image": scan((9, 9, 9), (2, 2, 2.0))}]
    protocols = own_protocol(scans)
    assert protocols.factor == (5.0, 5.0)
    assert protocols.thickness_over_spacing == (0.8, 0.8)
    assert list(protocols.profiles) == ["rect"]
    with pytest.raises(Refusal, match="no protocol to adapt to"):
        own_protocol(scans[1:])
