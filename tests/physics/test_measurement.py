import torch
from hypothesis import given

from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation
from scripts.physics.measurement import Measurement, simulate_slices
from scripts.physics.noise import add_rician_noise
from scripts.physics.projection import DataConsistency
from tests.strategies import slice_geometries


@given(slice_geometries())
def test_projection_of_planes_equals_that_of_volumes(geometry):
    random = torch.Generator().manual_seed(0)
    sharp, other = torch.rand(2, 2, 1, 7, geometry.thin_size, generator=random)
    measured = Measurement.simulate(sharp, geometry)
    A = Acquisition(geometry)
    slices = A(sharp)
    assert torch.allclose(measured.image, CubicInterpolation(geometry)(slices))
    assert torch.allclose(measured.project(other), DataConsistency(A)(other, slices), atol=1e-4)


@given(slice_geometries())
def test_a_volume_is_measured_as_its_planes_are(geometry):
    volume, other = torch.rand(2, 2, 1, 5, 8, geometry.thin_size, generator=torch.Generator().manual_seed(0))
    whole = Measurement.simulate(volume, geometry)
    planes = Measurement.simulate(volume.transpose(1, 2).flatten(0, 1), geometry)
    shown = whole.with_conditioning(whole.image)
    assert torch.equal(shown.transpose(1, 2).flatten(0, 1), planes.with_conditioning(planes.image))
    expected = planes.project(other.transpose(1, 2).flatten(0, 1))
    assert torch.allclose(whole.project(other).transpose(1, 2).flatten(0, 1), expected, atol=1e-4)


def test_autocast_does_not_change_the_physics():
    geometry = SliceGeometry(32, 8, 4, 4)
    sharp = torch.rand(2, 1, 16, 32)
    exact = Measurement.simulate(sharp, geometry)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        measured = Measurement.simulate(sharp, geometry)
        assert torch.equal(measured.image, exact.image)
        assert torch.equal(measured.project(sharp), exact.project(sharp))


@given(slice_geometries())
def test_conditioning_channels_follow_the_image(geometry):
    sharp = torch.rand(3, 1, 5, geometry.thin_size)
    measured = Measurement.simulate(sharp, geometry)
    shown = measured.with_conditioning(sharp)
    assert shown.shape == (3, 7, 5, geometry.thin_size)
    assert torch.equal(shown[:, :1], sharp)
    assert torch.equal(shown[1, 1:, 2], torch.from_numpy(geometry.conditioning()).float())


@given(slice_geometries())
def test_determined_and_open_part_add_up_to_the_projection(geometry):
    random = torch.Generator().manual_seed(0)
    sharp, other = torch.rand(2, 2, 1, 7, geometry.thin_size, generator=random)
    measured = Measurement.simulate(sharp, geometry)
    assert torch.allclose(measured.determined + measured.open_part(other), measured.project(other), atol=1e-4)


def test_the_open_part_vanishes_in_the_slices():
    geometry = SliceGeometry(48, 12, 4, 4)
    sharp = torch.rand(2, 1, 16, 48, generator=torch.Generator().manual_seed(0))
    open_part = Measurement.simulate(sharp, geometry).open_part(sharp)
    assert float(Acquisition(geometry)(open_part).abs().max()) < 1e-3
    assert float(open_part.std()) > 0.1


def test_simulated_slices_are_acquired_before_noise_is_added():
    A = Acquisition(SliceGeometry(48, 12, 4, 4))
    volume = torch.rand(3, 5, 48)
    assert torch.equal(simulate_slices(A, volume), A(volume))
    noisy = simulate_slices(A, volume, 0.1, torch.Generator().manual_seed(2))
    assert torch.equal(noisy, add_rician_noise(A(volume), 0.1, torch.Generator().manual_seed(2)))
