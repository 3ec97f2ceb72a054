import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.learning.generator import Generator
from scripts.learning.weights import begin_from, default_detail_gain, default_sharpness, load_blend


def generator(seed: int) -> Generator:
    torch.manual_seed(seed)
    network = Generator(channels=4, blocks=1, fold=(2, 2), conditioning_channels=4)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    return network


def sharpened() -> dict[str, torch.Tensor]:
    """Weights that grew from those of seed 1."""
    torch.manual_seed(2)
    return {name: tensor + 0.02 * torch.randn_like(tensor) for name, tensor in generator(1).state_dict().items()}


@pytest.fixture
def files(tmp_path):
    torch.save(generator(1).state_dict(), tmp_path / "faithful.pt")
    torch.save(sharpened(), tmp_path / "sharp.pt")
    return str(tmp_path / "faithful.pt"), str(tmp_path / "sharp.pt")


@pytest.mark.parametrize("sharpness", [0.0, 0.25, 1])
def test_the_dial_walks_a_straight_line_between_both_ends(files, sharpness):
    mixed = load_blend(generator(0), *files, sharpness).state_dict()
    faithful, sharp = generator(1).state_dict(), sharpened()
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, (1 - sharpness) * faithful[name] + sharpness * sharp[name])


def test_the_faithful_end_needs_no_sharp_weights(files):
    load_blend(generator(0), files[0], "nowhere.pt", 0)
    with pytest.raises(Refusal, match=r"nowhere\.pt: no such weights"):
        load_blend(generator(0), files[0], "nowhere.pt", 0.1)


@pytest.mark.parametrize("sharpness", [0.5, 1])
def test_weights_of_two_trainings_are_not_mixed(files, tmp_path, sharpness):
    other = str(tmp_path / "other.pt")
    torch.save(generator(2).state_dict(), other)
    with pytest.raises(Refusal, match=r"other\.pt lies too far from .*faithful\.pt .* give --sharpness 0"):
        load_blend(generator(0), files[0], other, sharpness)
    torch.save({name: tensor * float("nan") for name, tensor in generator(2).state_dict().items()}, other)
    with pytest.raises(Refusal, match="lies too far"):
        load_blend(generator(0), files[0], other, sharpness)


def test_adapted_weights_keep_all_of_their_adaptation(files, tmp_path):
    adapted = {name: tensor + 0.01 for name, tensor in generator(1).state_dict().items()}
    torch.save(adapted, tmp_path / "adapted.pt")
    mixed = load_blend(generator(0), str(tmp_path / "adapted.pt"), files[1], 0.5, files[0]).state_dict()
    plain = load_blend(generator(0), *files, 0.5).state_dict()
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, plain[name] + 0.01)


def test_the_dial_stands_half_way_only_between_ends_of_one_training(files, tmp_path):
    other, tiny = str(tmp_path / "other.pt"), str(tmp_path / "tiny.pt")
    torch.save(generator(2).state_dict(), other)
    torch.save(Generator(channels=2, blocks=1, fold=(2, 2)).state_dict(), tiny)
    assert default_sharpness(*files) == 0.5
    assert default_sharpness(files[0], other) == 0
    assert default_sharpness(files[0], tiny) == default_sharpness(tiny, files[1]) == 0
    assert default_sharpness(files[0], "nowhere.pt") == default_sharpness("nowhere.pt", files[1]) == 0
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    assert default_sharpness(files[0], str(tmp_path / "bad.pt")) == 0


@pytest.mark.parametrize("sharpness", [-0.1, 1.1, float("nan"), "half", None, True])
def test_a_dial_beyond_its_ends_is_refused(files, sharpness):
    with pytest.raises(Refusal, match="sharpness must be between 0"):
        load_blend(generator(0), *files, sharpness)


def test_training_begins_with_bare_weights_or_a_checkpoint(files, tmp_path):
    networks, averaged = {"G": generator(0), "F": generator(3)}, generator(0)
    begin_from(files[1], networks, averaged)
    for name, tensor in sharpened().items():
        assert torch.equal(networks["G"].state_dict()[name], tensor)
        assert torch.equal(averaged.state_dict()[name], tensor)
    assert torch.equal(networks["F"].head.weight, generator(3).head.weight)
    torch.save({"ema": generator(4).state_dict(), "F": generator(5).state_dict()}, tmp_path / "best.pt")
    begin_from(str(tmp_path / "best.pt"), networks, averaged)
    assert torch.equal(networks["G"].head.weight, generator(4).head.weight)
    assert torch.equal(networks["F"].head.weight, generator(5).head.weight)


def test_what_holds_no_weights_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(Refusal, match="neither weights nor"):
        begin_from(str(tmp_path / "other.pt"), {"G": generator(0)}, generator(0))


def test_the_stretch_grows_along_the_dial_and_with_the_answers():
    assert [default_detail_gain(place, 2) for place in (0, 0.5, 1)] == pytest.approx([1.15, 1.225, 1.3])
    assert [default_detail_gain(place, 4) for place in (0, 0.5, 1)] == pytest.approx([1.225, 1.3375, 1.45])
    assert default_detail_gain(0, 1) == default_detail_gain(1, 1) == 1
    assert default_detail_gain("far", 2) == default_detail_gain(0, 2)  # refused elsewhere, with a line of its own
