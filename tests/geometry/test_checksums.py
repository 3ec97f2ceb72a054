"""Damaged and changed weights: a flipped bit would give other results without a word."""

import json
import random
import shutil

import pytest
import torch

from scripts.geometry import checksums
from scripts.geometry.checksums import origin_of, require_intact, sha256_of
from scripts.geometry.errors import Refusal

from ..conftest import ROOT

SHIPPED = json.loads((ROOT / "configs/metadata.json").read_text(encoding="utf-8"))["weights_sha256"]


@pytest.fixture
def own(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "own.pt"
    torch.save({"head.weight": torch.randn(40, 30), "epoch": torch.tensor(3)}, path)
    return path


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A copy of the shipped weights that counts as the bundle's own folder."""
    monkeypatch.setattr(checksums, "MODELS", tmp_path / "models")
    return shutil.copytree(ROOT / "models", tmp_path / "models")


def test_the_bundle_names_the_checksum_of_every_shipped_file():
    found = {path.name: sha256_of(path) for path in (ROOT / "models").glob("*.pt")}
    assert found == SHIPPED
    for name in found:
        require_intact(ROOT / "models" / name)


@pytest.mark.parametrize("name", sorted(SHIPPED))
@pytest.mark.parametrize("part", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_flipped_bit_in_shipped_weights_is_refused_wherever_they_lie(bundle, tmp_path, name, part):
    content = bytearray((bundle / name).read_bytes())
    content[int(part * len(content))] ^= 4
    (bundle / name).write_bytes(content)
    with pytest.raises(Refusal, match=f"{name}: (not as shipped|damaged|not a file of weights, damaged)"):
        require_intact(bundle / name)
    (tmp_path / "elsewhere.pt").write_bytes(content)
    if 0.1 <= part <= 0.9:  # in a tensor; the ends of the file hold padding too, where a bit changes nothing
        with pytest.raises(Refusal, match=r"elsewhere\.pt: damaged"):
            require_intact(tmp_path / "elsewhere.pt")


def test_other_weights_in_the_place_of_shipped_ones_are_refused_and_elsewhere_are_own(bundle, own):
    require_intact(own)
    assert origin_of(sha256_of(own)) == "own"
    shutil.copy(own, bundle / "model.pt")
    with pytest.raises(Refusal, match=r"model\.pt: not as shipped .*another place and name it by --weights_path"):
        require_intact(bundle / "model.pt")
    shutil.copy(own, bundle / "mine.pt")
    require_intact(bundle / "mine.pt")


def test_weights_are_shipped_only_if_all_of_them_are(own):
    faithful, sharp = SHIPPED["model.pt"], SHIPPED["model_sharp.pt"]
    assert origin_of(faithful) == origin_of(faithful, None) == origin_of(faithful, sharp) == "shipped"
    assert origin_of(faithful, sha256_of(own)) == "own"


def test_no_flipped_bit_of_a_checkpoint_changes_what_is_loaded(own, tmp_path):
    """Each flip is refused, or is of a byte without meaning."""
    whole, content = torch.load(own, weights_only=True), own.read_bytes()
    changed = tmp_path / "changed.pt"
    refused = 0
    for bit in random.Random(0).sample(range(8 * len(content)), 400):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        changed.write_bytes(flipped)
        try:
            require_intact(changed)
            found = torch.load(changed, weights_only=True)
        except Exception:  # noqa: BLE001 - whatever torch raises, `load_weights` refuses
            refused += 1
            continue
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert refused > 300


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 50])
def test_what_is_no_file_of_weights_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(Refusal, match=r"a\.pt: not a file of weights"):
        require_intact(tmp_path / "a.pt")
