"""Every metric is best on the unchanged image and gets worse with each step of blur, noise or stripes."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import ndimage

import scripts.metrics
from scripts.metrics.closure import sharpness_closed, spectrum_closed
from scripts.metrics.fidelity import hfen, nrmse, psnr, ssim
from scripts.metrics.pique import pique, pique_of_planes
from scripts.metrics.profiles import border_profiles
from scripts.metrics.residual import relative_residual
from scripts.metrics.sharpness import axis_sharpness, edge_sharpness
from scripts.metrics.spectrum import high_band, high_band_share, slice_period_artefact
from scripts.metrics.uncertainty import coverage, error_per_decile, rank_correlation
from tests.metrics.oracles import BlockAcquisition, ball, block_average, cubic_spline, tissue

FACTOR = 4
WINDOW = (-200.0, 1200.0)
MM = (1.0, 1.0, 1.0)
TRUTH = tissue((32, 32, 64))
MASK = np.zeros(TRUTH.shape, bool)
MASK[3:29, 2:30, 4:60] = True
SLICES = block_average(TRUTH, FACTOR)
INTERPOLATED = cubic_spline(SLICES, FACTOR)
ORGAN = ball(TRUTH.shape, 11.0) < 0
NOISE = np.random.default_rng(3).normal(size=TRUTH.shape)
ERROR = np.abs(np.random.default_rng(4).normal(size=TRUTH.shape))


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, sigma) if sigma else image


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    return image + sigma * NOISE * image.std()


def striped(image: np.ndarray, amplitude: float) -> np.ndarray:
    return image + amplitude * image.std() * (np.arange(image.shape[-1]) % FACTOR == 0)


def staircase(image: np.ndarray, share: float) -> np.ndarray:
    return image + share * (np.repeat(block_average(image, FACTOR), FACTOR, axis=-1) - image)


LEVELS = {blurred: (0, 0.6, 1.0, 2.0), noisy: (0, 0.1, 0.4, 1.5), striped: (0, 0.1, 0.3, 1.0), staircase: (0, 0.4, 1)}
BOTH, BLUR, NOISE_ONLY = (blurred, noisy), (blurred,), (noisy,)


class Contract(NamedTuple):
    """`loss` of a changed `image`: lowest on the image itself, `best` there where that is a known number."""

    function: Callable
    loss: Callable[[np.ndarray], float]
    changes: tuple = BOTH
    best: float | None = 0.0
    image: np.ndarray = TRUTH


CONTRACTS = {
    "PSNR": Contract(psnr, lambda v: -psnr(v, TRUTH, MASK), best=-np.inf),
    "SSIM": Contract(ssim, lambda v: 1 - ssim(v, TRUTH, MASK)),
    "SSIM in planes": Contract(ssim, lambda v: 1 - ssim(v, TRUTH, MASK, axis=0)),
    "NRMSE": Contract(nrmse, lambda v: nrmse(v, TRUTH, MASK)),
    "HFEN": Contract(hfen, lambda v: hfen(v, TRUTH, MASK)),
    "HFEN along an axis": Contract(hfen, lambda v: hfen(v, TRUTH, MASK, axis=2)),
    "high-band error": Contract(high_band, lambda v: high_band(v, TRUTH, FACTOR, mask=MASK).error),
    "high-band energy": Contract(high_band, lambda v: abs(high_band(v, TRUTH, FACTOR, mask=MASK).energy - 1)),
    "residual": Contract(relative_residual, lambda v: relative_residual(v, SLICES, BlockAcquisition(FACTOR))),
    "PIQUE": Contract(pique, lambda v: float(pique(torch.from_numpy(v)[:, None], WINDOW).score.mean()), best=None),
    "PIQUE of planes": Contract(pique_of_planes, lambda v: pique_of_planes(v, 1, WINDOW, MASK).mean(), best=None),
    # sharpness without truth: noise has steep gradients too, hence never without a measure of fidelity beside it
    "axis sharpness": Contract(axis_sharpness, lambda v: -axis_sharpness(v, MM, 2, MASK, WINDOW), BLUR, None),
    "edge sharpness": Contract(
        edge_sharpness,
        lambda v: -edge_sharpness(border_profiles(v, ORGAN, MM)).sigmoid.median,
        BLUR,
        None,
        700.0 * ndimage.gaussian_filter(ORGAN.astype(float), 0.7),
    ),
    "high-band share": Contract(high_band_share, lambda v: -high_band_share(v, FACTOR, mask=MASK), BLUR, None),
    "sharpness closed": Contract(sharpness_closed, lambda v: -sharpness_closed(v, INTERPOLATED, MM), BLUR, None),
    "spectrum closed": Contract(spectrum_closed, lambda v: -spectrum_closed(v, INTERPOLATED, FACTOR), BLUR, None),
    "banding": Contract(
        slice_period_artefact,
        lambda v: slice_period_artefact(v, FACTOR, truth=TRUTH).banding_to_truth,
        (striped,),
        1.0,
    ),
    "steps": Contract(
        slice_period_artefact, lambda v: slice_period_artefact(v, FACTOR, truth=TRUTH).steps_to_truth, (staircase,), 1.0
    ),
    "modulation": Contract(
        slice_period_artefact, lambda v: slice_period_artefact(v, FACTOR).modulation, (staircase,), None
    ),
    "stripes": Contract(slice_period_artefact, lambda v: slice_period_artefact(v, FACTOR).stripes, (striped,), None),
    # the image is a half-width that just holds every error
    "coverage": Contract(
        coverage, lambda v: -coverage(1.0001 * v + 1e-6, TRUTH + ERROR, TRUTH, MASK), NOISE_ONLY, -1.0, ERROR
    ),
    # the image is an uncertainty, best where it grows with the error
    "rank correlation": Contract(
        rank_correlation, lambda v: -rank_correlation(v, TRUTH + ERROR, TRUTH, MASK), NOISE_ONLY, -1.0, ERROR
    ),
    "error per decile": Contract(
        error_per_decile,
        lambda v: -float(np.ptp(error_per_decile(v, TRUTH + ERROR, TRUTH, MASK))),
        NOISE_ONLY,
        None,
        ERROR,
    ),
}
HELPERS = {  # public functions that prepare or combine and do not measure a volume
    *("as_image", "as_pair", "as_mask", "bounding_box", "checked_axis", "body_mask", "share_closed"),
    *("value_span", "robust_range", "scale_window", "shared_window", "border_profiles", "line_profiles"),
    "power_spectrum",
}


def test_every_metric_has_a_contract():
    modules = [
        importlib.import_module(f"scripts.metrics.{m.name}") for m in pkgutil.iter_modules(scripts.metrics.__path__)
    ]
    public = {
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == HELPERS | {contract.function.__name__ for contract in CONTRACTS.values()}


@pytest.mark.parametrize(
    ("name", "change"),
    [(name, change) for name, contract in CONTRACTS.items() for change in contract.changes],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_metric_is_best_on_the_unchanged_image_and_worse_with_each_step(name, change):
    contract = CONTRACTS[name]
    losses = [contract.loss(change(contract.image, level)) for level in LEVELS[change]]
    assert all(first < second for first, second in pairwise(losses)), losses
    if contract.best is not None:
        assert losses[0] == pytest.approx(contract.best, abs=1e-9)
