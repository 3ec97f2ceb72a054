import logging
import re
from pathlib import Path

import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.learning.generator import Generator, VolumeGenerator
from scripts.learning.resnet import ResnetGenerator
from scripts.learning.weights import (
    default_detail_gain,
    default_sharpness,
    load_initial_weights,
    load_interpolated,
    load_weights,
)
from tests.conftest import ROOT


def generator(seed: int) -> Generator:
    torch.manual_seed(seed)
    network = Generator(channels=4, blocks=1, fold=(2, 2), conditioning_channels=4)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    return network


def sharp_weights() -> dict[str, torch.Tensor]:
    """Weights that continue those of seed 1."""
    torch.manual_seed(2)
    return {name: tensor + 0.02 * torch.randn_like(tensor) for name, tensor in generator(1).state_dict().items()}


@pytest.fixture
def files(tmp_path):
    torch.save(generator(1).state_dict(), tmp_path / "faithful.pt")
    torch.save(sharp_weights(), tmp_path / "sharp.pt")
    return str(tmp_path / "faithful.pt"), str(tmp_path / "sharp.pt")


@pytest.mark.parametrize("sharpness", [0.0, 0.25, 1])
def test_weights_are_interpolated_linearly(files, sharpness):
    network = load_interpolated(generator(0), *files, sharpness).state_dict()
    faithful, sharp = generator(1).state_dict(), sharp_weights()
    for name, tensor in network.items():
        torch.testing.assert_close(tensor, (1 - sharpness) * faithful[name] + sharpness * sharp[name])


def test_sharpness_0_needs_no_sharp_weights(files):
    load_interpolated(generator(0), files[0], "nowhere.pt", 0)
    with pytest.raises(Refusal, match=r"nowhere\.pt: no such weights"):
        load_interpolated(generator(0), files[0], "nowhere.pt", 0.1)


@pytest.mark.parametrize("sharpness", [0.5, 1])
def test_weights_of_two_trainings_are_not_interpolated(files, tmp_path, sharpness):
    other = str(tmp_path / "other.pt")
    torch.save(generator(2).state_dict(), other)
    with pytest.raises(Refusal, match=r"other\.pt was not trained from .*faithful\.pt .* give --sharpness 0"):
        load_interpolated(generator(0), files[0], other, sharpness)
    torch.save({name: tensor * float("nan") for name, tensor in generator(2).state_dict().items()}, other)
    with pytest.raises(Refusal, match="was not trained from"):
        load_interpolated(generator(0), files[0], other, sharpness)


def test_adapted_weights_keep_all_of_their_adaptation(files, tmp_path):
    adapted = {name: tensor + 0.01 for name, tensor in generator(1).state_dict().items()}
    torch.save(adapted, tmp_path / "adapted.pt")
    network = load_interpolated(generator(0), str(tmp_path / "adapted.pt"), files[1], 0.5, files[0]).state_dict()
    plain = load_interpolated(generator(0), *files, 0.5).state_dict()
    for name, tensor in network.items():
        torch.testing.assert_close(tensor, plain[name] + 0.01)


def test_the_default_sharpness_is_0_where_the_weights_are_of_two_trainings(files, tmp_path):
    other, tiny = str(tmp_path / "other.pt"), str(tmp_path / "tiny.pt")
    torch.save(generator(2).state_dict(), other)
    torch.save(Generator(channels=2, blocks=1, fold=(2, 2)).state_dict(), tiny)
    assert default_sharpness(*files) == 0.5
    assert default_sharpness(files[0], other) == 0
    assert default_sharpness(files[0], tiny) == default_sharpness(tiny, files[1]) == 0
    assert default_sharpness(files[0], "nowhere.pt") == default_sharpness("nowhere.pt", files[1]) == 0


@pytest.mark.parametrize("which", ["faithful.pt", "sharp.pt"])
def test_damaged_weights_are_refused_wherever_they_are_read(files, tmp_path, which):
    """Also where the sharp weights only decide about the default sharpness."""
    content = bytearray((tmp_path / which).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / which).write_bytes(content)
    with pytest.raises(Refusal, match=rf"{which}: damaged"):
        load_interpolated(generator(0), *files, 0.5)
    with pytest.raises(Refusal, match=rf"{which}: damaged"):
        default_sharpness(*files)
    with pytest.raises(Refusal, match=rf"{which}: damaged"):
        load_initial_weights(str(tmp_path / which), {"G": generator(0)}, generator(0))


def test_weights_that_do_not_ship_with_the_bundle_are_called_own(files, caplog):
    with caplog.at_level(logging.INFO):
        load_interpolated(generator(0), *files, 0.5)
    assert [line.partition(" (")[0] for line in caplog.messages] == [
        f"{path}: your own weights, not shipped with GLADE" for path in files
    ]


def test_the_reason_for_sharpness_0_is_the_right_one(files, tmp_path, caplog):
    torch.save(generator(2).state_dict(), tmp_path / "other.pt")
    caplog.set_level("INFO")
    for given, line in (
        (
            (files[0], str(tmp_path / "other.pt")),
            "sharpness is 0: other.pt continues another training than faithful.pt",
        ),
        ((files[0], "nowhere.pt"), "there are no sharp weights: nowhere.pt: no such weights"),
    ):
        caplog.clear()
        default_sharpness(*given)
        assert line in caplog.text
    caplog.clear()
    default_sharpness("nowhere.pt", files[1])  # the run ends where these are loaded: that line says why
    assert caplog.text == ""


@pytest.mark.parametrize("sharpness", [-0.1, 1.1, float("nan"), "half", None, True])
def test_a_sharpness_out_of_range_is_refused(files, sharpness):
    with pytest.raises(Refusal, match="sharpness must be between 0"):
        load_interpolated(generator(0), *files, sharpness)


def test_a_training_starts_from_bare_weights_or_a_checkpoint(files, tmp_path):
    networks, averaged = {"G": generator(0), "F": generator(3)}, generator(0)
    load_initial_weights(files[1], networks, averaged)
    for name, tensor in sharp_weights().items():
        assert torch.equal(networks["G"].state_dict()[name], tensor)
        assert torch.equal(averaged.state_dict()[name], tensor)
    assert torch.equal(networks["F"].head.weight, generator(3).head.weight)
    torch.save({"ema": generator(4).state_dict(), "F": generator(5).state_dict()}, tmp_path / "best.pt")
    load_initial_weights(str(tmp_path / "best.pt"), networks, averaged)
    assert torch.equal(networks["G"].head.weight, generator(4).head.weight)
    assert torch.equal(networks["F"].head.weight, generator(5).head.weight)


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(Refusal, match="neither weights nor"):
        load_initial_weights(str(tmp_path / "other.pt"), {"G": generator(0)}, generator(0))


def test_the_detail_gain_grows_with_sharpness_and_the_number_of_predictions():
    assert [default_detail_gain(sharpness, 2) for sharpness in (0, 0.5, 1)] == pytest.approx([1.075, 1.1875, 1.3])
    assert [default_detail_gain(sharpness, 4) for sharpness in (0, 0.5, 1)] == pytest.approx([1.1125, 1.28125, 1.45])
    assert default_detail_gain(0, 1) == default_detail_gain(1, 1) == 1
    assert default_detail_gain("far", 2) == default_detail_gain(0, 2)  # refused elsewhere, with a line of its own


def test_weights_of_the_papers_recipe_name_the_settings_that_read_them(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "model.pt"
    torch.save(ResnetGenerator(64, 1).state_dict(), path)
    with pytest.raises(
        Refusal, match=r'weights of configs/paper\.yaml: add --network_def "%configs/paper\.yaml::network'
    ):
        load_weights(Generator(8, 1, (2, 2), 6), str(path))
    monkeypatch.chdir(tmp_path)  # the path is one that this process can open
    with pytest.raises(Refusal) as refused:
        load_weights(Generator(8, 1, (2, 2), 6), str(path))
    assert Path(re.search('"%(.*)::network_def"', str(refused.value))[1]).samefile(ROOT / "configs" / "paper.yaml")


def test_a_generator_of_volumes_takes_weights_of_planes(files):
    volume, planes = VolumeGenerator(4, 1, (2, 2), 4), torch.rand(1, 5, 24, 20)
    torch.nn.init.normal_(volume.cross[0].second.weight)  # of weights that were loaded before
    load_interpolated(volume, *files, 0.5)
    plane = load_interpolated(generator(0), *files, 0.5)
    with torch.no_grad():
        torch.testing.assert_close(volume(planes[:, :, None])[:, :, 0], plane(planes), atol=1e-5, rtol=0)


def test_weights_of_planes_and_of_volumes_are_interpolated(files, tmp_path):
    trained = VolumeGenerator(4, 1, (2, 2), 4)
    load_weights(trained, files[1])
    torch.nn.init.normal_(trained.cross[0].second.weight, std=0.01)
    torch.save(trained.state_dict(), tmp_path / "volumes.pt")
    network = VolumeGenerator(4, 1, (2, 2), 4)
    half = load_interpolated(network, files[0], str(tmp_path / "volumes.pt"), 0.5).state_dict()
    for name in ("cross.0.first.weight", "cross.0.first.gain"):  # which planes lack
        torch.testing.assert_close(half[name], trained.state_dict()[name])
    torch.testing.assert_close(half["cross.0.second.weight"], 0.5 * trained.cross[0].second.weight)
    planes = load_interpolated(generator(0), *files, 0.5).state_dict()
    torch.testing.assert_close({name: half[name] for name in planes}, planes)


def test_weights_of_a_generator_of_volumes_name_their_network(tmp_path):
    path = str(tmp_path / "volume.pt")
    torch.save(VolumeGenerator(4, 1, (2, 2), 4).state_dict(), path)
    with pytest.raises(Refusal, match=r"add --network_def::_target_ scripts\.learning\.generator\.VolumeGenerator"):
        load_weights(generator(0), path)
    load_weights(VolumeGenerator(4, 1, (2, 2), 4), path)


class TouchesAFile:
    """Creates a file when it is unpickled, as code hidden in a file of weights could."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_that_would_run_code_are_refused(tmp_path):
    torch.save({"head.weight": TouchesAFile(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(Refusal, match=r"a\.pt: not a file of weights"):
        load_weights(generator(0), str(tmp_path / "a.pt"))
    assert not (tmp_path / "ran").exists()
