import math

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from scipy import ndimage

from scripts.geometry.refusal import Refusal
from scripts.judging.fidelity import psnr, ssim
from scripts.judging.mask import body_mask
from scripts.judging.metrics import PIQUE, PSNR, SSIM, HighBandEnergy, HighBandError
from scripts.judging.piqe import piqe
from scripts.judging.spectrum import high_band
from tests.judging.oracles import tissue


@pytest.fixture(scope="module")
def batch():
    truth = torch.from_numpy(tissue((6, 40, 48))).float()[:, None]
    result = torch.from_numpy(ndimage.gaussian_filter(truth.numpy(), (0, 0, 0, 0.8)))
    return result, truth


def test_metrics_are_the_means_of_the_functions(batch):
    result, truth = batch
    pairs = list(zip(result[:, 0], truth[:, 0], strict=True))
    expected = {
        PSNR(): np.mean([psnr(r, t) for r, t in pairs]),
        PSNR(data_range=1000.0): np.mean([psnr(r, t, data_range=1000) for r, t in pairs]),
        SSIM(): np.mean([ssim(r, t) for r, t in pairs]),
        PIQUE(): float(piqe(result).score.mean()),
        PIQUE(window=(0, 900)): float(piqe(result, (0, 900)).score.mean()),
        HighBandEnergy(4): high_band(result[:, 0], truth[:, 0], 4).energy,
        HighBandError(4): high_band(result[:, 0], truth[:, 0], 4).error,
    }
    for metric, value in expected.items():
        metric(result[:4], truth[:4])
        metric([*result[4:]], [*truth[4:]])  # decollated, as MONAI's engines hand over
        assert float(metric.aggregate()) == pytest.approx(value, rel=1e-6), type(metric).__name__
        metric.reset()
        metric(result[:1], truth[:1])
        assert len(metric) == 1


def test_metrics_of_volumes_use_the_mask_rule():
    truth = torch.zeros(2, 1, 30, 30, 30)
    truth[:, :, 8:22, 8:22, 8:22] = torch.from_numpy(tissue((14, 14, 14))).float()
    result = truth + 10
    metric = PSNR(mask_rule=body_mask)
    metric(result, truth)
    assert float(metric.aggregate()) == pytest.approx(psnr(result[0], truth[0], body_mask(truth[0])), rel=1e-6)


def test_undefined_images_are_left_out_of_the_mean(batch):
    result, truth = (b.clone() for b in batch)
    truth[2] = 5.0
    metric = PSNR()
    metric(result, truth)
    kept = [psnr(result[i, 0], truth[i, 0]) for i in range(6) if i != 2]
    assert float(metric.aggregate()) == pytest.approx(np.mean(kept), rel=1e-6)
    band = HighBandError(4)
    band(truth[2:3], truth[2:3])
    assert math.isnan(float(band.aggregate()))


@pytest.mark.parametrize("metric", [PSNR, SSIM, PIQUE, lambda: HighBandEnergy(4), lambda: HighBandError(4)])
def test_metrics_work_as_ignite_handlers(batch, metric):
    engine = Engine(lambda _, pair: pair)
    IgniteMetricHandler(metric_fn=metric(), output_transform=lambda pair: pair).attach(engine, "score")
    engine.run([batch, batch], max_epochs=1)
    direct = metric()
    direct(*batch)
    assert engine.state.metrics["score"] == pytest.approx(float(direct.aggregate()), rel=1e-6)


@pytest.mark.parametrize("metric", [PSNR, SSIM, PIQUE, lambda: HighBandEnergy(4)])
def test_metrics_refuse_bad_batches(batch, metric):
    result, truth = batch
    with pytest.raises((Refusal, ValueError)):
        metric()(result * float("nan"), truth)
    with pytest.raises((Refusal, ValueError)):
        metric()(torch.cat([result, result], dim=1), torch.cat([truth, truth], dim=1))


def test_band_and_pique_refuse_to_aggregate_nothing():
    for metric in (HighBandEnergy(4), PIQUE()):
        with pytest.raises(Refusal, match="no batch"):
            metric.aggregate()


def _rank(rank: int, path: str, result: torch.Tensor, truth: torch.Tensor, answers) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    mine = slice(0, 4) if rank == 0 else slice(4, 6)  # uneven
    scores = []
    for metric in (PSNR(), HighBandError(4), PIQUE()):
        metric(result[mine], truth[mine])
        scores.append(float(metric.aggregate()))
    answers[rank] = scores
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_agree_with_one(batch, tmp_path):
    with mp.Manager() as manager:
        answers = manager.dict()
        mp.spawn(_rank, args=(tmp_path / "meeting", *batch, answers), nprocs=2)
        ranks = dict(answers)
    expected = []
    for metric in (PSNR(), HighBandError(4), PIQUE()):
        metric(*batch)
        expected.append(float(metric.aggregate()))
    for rank in (0, 1):
        assert ranks[rank] == pytest.approx(expected, rel=1e-6)
