"""The shipped training workflow on small scans with small networks: learns, resumes exactly, refuses."""

import os
import subprocess
import sys

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.geometry.errors import refusal_of
from scripts.geometry.grid import Grid
from scripts.learning.generator import Generator
from scripts.learning.losses import LossWeights
from scripts.phantom.abdomen import abdomen
from scripts.physics.acquisition import SliceGeometry
from scripts.physics.measurement import Measurement
from tests.contracts.config_files import OVERLAYS
from tests.workflows.tiny_inference import ROOT, TINY, tiny_generator

SMALL = {
    "patch_size": [32, 32],
    "batch_size": 2,
    "patches_per_epoch": 8,
    "validation_patches": 4,
    "held_back": 0.3,
    "max_epochs": 2,
    "constant_epochs": 2,
    "unpaired_from": 2,
    "mixed_from": 1,
    "network_def": {"_target_": "scripts.learning.generator.Generator", **TINY},
    "blur_network_def": {"_target_": "scripts.learning.generator.Generator", **TINY},
    "device": "$torch.device('cpu')",
}
FACTOR_4 = {"factor": [4.0, 4.0], "thickness_over_spacing": [1.0, 1.0], "profiles": ["rect"]}
SMALL_DISCRIMINATOR = {
    "D_Y_def::channels": 4,
    "D_X_def::channels": 4,
    "D_Y_def::num_layers_d": 2,
    "D_X_def::num_layers_d": 2,
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two thick scans and two near-isotropic ones of the phantom."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in (0, 1):
        for name, shape, spacing in (("thick", (40, 36, 12), (5, 5, 14)), ("iso", (40, 36, 30), (5, 5, 5))):
            affine = np.diag([*spacing, 1.0])
            affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
            volume = abdomen(Grid(shape, affine), seed)
            nibabel.save(nibabel.Nifti1Image(volume, affine), folder / f"{name}{seed}.nii.gz")
    return folder


@pytest.fixture
def train(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # train.yaml takes the generator from configs/inference.yaml
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(name="run", overlays=(), **overrides):
        output = tmp_path / name
        settings = {**SMALL, **SMALL_DISCRIMINATOR, **overrides}
        configs = ["configs/train.yaml", *overlays]
        monai.bundle.run(
            "training",
            config_file=configs,
            logging_file=False,
            **{"dataset_dir": str(scans), "output_dir": str(output), **settings},
        )
        return torch.load(output / "last.pt", weights_only=True), output

    yield run
    set_determinism(None)


def scalars_of(output) -> dict[str, list[float]]:
    """What a training wrote for TensorBoard, by tag."""
    scalars = {}
    for file in output.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        scalars |= {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return scalars


def test_training_is_repeatable_and_resumes_exactly(train):
    whole, output = train("whole")
    again, _ = train("again")
    train("half", max_epochs=1, constant_epochs=1)
    resumed, _ = train("half", resume=str(output.parent / "half" / "last.pt"))
    assert whole["trainer"]["iteration"] == 8
    for name in ("G", "F", "D_Y", "D_X", "ema"):
        for key, value in whole[name].items():
            assert torch.equal(value, again[name][key]), (name, key)
            assert torch.equal(value, resumed[name][key]), (name, key)
    assert len(whole["history_Y"]["images"]) == 12  # 6 unpaired iterations of 2
    assert torch.load(output / "best.pt", weights_only=True)["best"] == whole["best"]
    with pytest.raises(RuntimeError) as error:
        train("whole", resume=str(output / "last.pt"))
    assert "is trained to epoch 2 already" in str(refusal_of(error.value))
    before = (output / "model.pt").read_bytes()
    with pytest.raises(RuntimeError) as error:
        train("whole")
    assert "holds a training: continue it with --resume" in str(refusal_of(error.value))
    assert (output / "model.pt").read_bytes() == before
    with pytest.raises(RuntimeError) as error:
        train("again", max_epochs=3, resume=str(output / "last.pt"))
    assert "again holds another training than" in str(refusal_of(error.value))
    best = torch.load(output / "model.pt", weights_only=True)
    assert best.keys() == tiny_generator().state_dict().keys()
    assert list(output.glob("events.out.tfevents.*"))


def test_patience_counts_on_after_a_pause(train):
    still = {"max_epochs": 6, "learning_rate": 1e-12, "unpaired_from": 1000, "patience": 2, "pause_after": 1}
    state, output = train("paused", **still)
    for epochs in (2, 3):  # the second and third validation are no better than the first
        assert state["trainer"]["iteration"] == 4 * (epochs - 1)
        state, _ = train("paused", **still, resume=str(output / "last.pt"))
        assert state["early_stop"]["counter"] == epochs - 1
    state, _ = train("whole", **still | {"pause_after": None})
    assert state["trainer"]["iteration"] == 12


def test_the_loss_of_a_pair_is_a_setting(train):
    still = {"max_epochs": 1, "constant_epochs": 1, "patches_per_epoch": 20, "learning_rate": 1e-12}
    tenth = {}
    for loss in ("torch.nn.L1Loss", "torch.nn.MSELoss"):
        _, output = train(loss, **still, unpaired_from=1000, **{"pair_loss::_target_": loss})
        (tenth[loss],) = scalars_of(output)["loss/supervised_G"]
    mean, square = tenth.values()  # of the same errors
    assert mean**2 < square < mean


def test_simulated_pairs_teach_both_generators(train, scans):
    generator = {**TINY, "channels": 16, "blocks": 2}
    _, output = train(
        max_epochs=8,
        constant_epochs=4,
        patches_per_epoch=128,
        unpaired_from=1000,
        mixed_from=1000,  # slices of 4 voxels, rect
        held_back=0.0,  # validated on the training scans: whether it learns at all, not how well
        learning_rate=2e-3,
        ema_momentum=0.05,
        val_interval=8,
        network_def={**SMALL["network_def"], **generator},
    )
    scalars = scalars_of(output)
    blur = scalars["loss/supervised_F"]
    assert np.mean(blur[-10:]) < 0.8 * np.mean(blur[:10]), blur
    assert len(scalars["val_psnr"]) == 1

    G = Generator(**generator).eval()
    G.load_state_dict(torch.load(output / "model.pt", weights_only=True))
    truth = torch.from_numpy(nibabel.load(scans / "iso0.nii.gz").get_fdata(dtype=np.float32))[:, None, :, :28]
    truth = truth / truth.quantile(0.995)
    sim = Measurement.simulate(truth, SliceGeometry(28, 7, 4, 4))
    with torch.no_grad():
        error = (sim.project(G(sim.with_conditioning(sim.image))) - truth).abs().mean()
    assert error < 0.98 * (sim.project(sim.image) - truth).abs().mean()  # less error than consistent cubic


def test_the_volumes_overlay_trains_the_plane_part_on_planes_and_all_on_volumes(train, tmp_path):
    """With planes alone, the blocks across planes stay as they were; their weights load into a generator of volumes."""
    weights = tmp_path / "planes.pt"
    torch.save(tiny_generator().state_dict(), weights)
    parts = ConfigParser.load_config_file(ROOT / "configs" / "volumes.yaml")["train::dataset"]["datasets"]
    short = {
        "patches_per_epoch": 6,  # three batches
        "unpaired_from": 1000,
        "max_epochs": 1,
        "constant_epochs": 1,
        "ema_momentum": 0.5,
        "start_from": str(weights),
        "exclude": [],
        "same_person": [],
        "protocols::factor": [1.5, 4.0],
        "validation_patch::patch_size": [6, 32, 32],
        "validation_protocols": [{"_target_": "scripts.physics.protocol.ProtocolRange", **FACTOR_4}],
        "network_def": {"_target_": "scripts.learning.generator.VolumeGenerator", **TINY},
    }
    parts[0]["sharp"]["patch_size"] = parts[1]["sharp"]["patch_size"] = [6, 32, 32]
    overlays = ["configs/shipped.yaml", "configs/volumes.yaml"]
    both, _ = train("both", overlays, **short, **{"train::dataset::datasets": parts})
    planes, output = train("planes", overlays, **short, **{"train::dataset::datasets": parts[2:]})
    assert both["trainer"]["iteration"] == planes["trainer"]["iteration"] == 3
    across = {name for name in both["G"] if name.startswith("cross.") and ".second." in name}
    assert not any(planes["G"][name].any() for name in across)
    assert any(both["G"][name].any() for name in across)
    assert not torch.equal(planes["G"]["head.weight"], torch.load(weights)["head.weight"])
    assert (output / "model.pt").is_file()


def test_volumes_are_not_trained_on_with_planes_held_back(train):
    overlays = ["configs/shipped.yaml", "configs/volumes.yaml"]
    others = {"exclude": [], "same_person": [], "start_from": "$None", "held_planes": [0.4, 0.6], "held_back": 0.0}
    with pytest.raises(RuntimeError) as error:
        train(overlays=overlays, **others)
    assert "hold back persons with --held_back" in str(refusal_of(error.value))


def test_the_paper_overlay_trains(train):
    resnet = {"_target_": "scripts.learning.resnet.ResnetGenerator", "channels": 4, "blocks": 1}
    state, output = train(
        overlays=["configs/paper.yaml"], network_def=resnet, blur_network_def=resnet, unpaired_from=0, views=[0]
    )
    assert state["trainer"]["iteration"] == 8
    assert "layers.1.weight" in state["G"]
    assert (output / "model.pt").is_file()


@pytest.mark.parametrize("overlay", [[], *([name] for name, base in OVERLAYS.items() if base == "train.yaml")])
def test_the_schedule_fits_any_number_of_epochs(overlay):
    config = ConfigParser.load_config_files([str(ROOT / "configs" / name) for name in ("train.yaml", *overlay)])
    parser = ConfigParser({**config, "max_epochs": 1})
    assert 0 <= parser.get_parsed_content("constant_epochs") <= 1


def test_sharp_weights_continue_the_faithful_ones(train):
    _, output = train("pairs", unpaired_from=1000)
    state, sharp = train(
        "sharp", overlays=["configs/sharp.yaml"], start_from=str(output / "best.pt"), unpaired_from=0, mixed_from=0
    )
    assert state["trainer"]["iteration"] == 8
    initial, final = (torch.load(folder / "model.pt", weights_only=True) for folder in (output, sharp))
    assert any(not torch.equal(initial[name], final[name]) for name in initial)
    latest = torch.load(sharp / "last.pt", weights_only=True)["ema"]
    assert all(torch.equal(latest[name], final[name]) for name in final)  # keep_latest


def test_adaptation_to_a_scan_never_makes_the_weights_worse(train, scans, tmp_path):
    weights = tmp_path / "shipped.pt"
    torch.save(tiny_generator().state_dict(), weights)
    own = {
        "dataset_dir": str(scans / "thick0.nii.gz"),
        "start_from": str(weights),
        "held_back": 0.0,
        "unpaired_from": 1000,
        "mixed_from": 0,
        "ema_momentum": 0.5,
    }
    state, output = train("adapted", overlays=["configs/adapt.yaml"], **own, learning_rate=1e-3, max_epochs=4)
    assert state["best"]["epoch"] > 0
    shipped, adapted = torch.load(weights), torch.load(output / "model.pt", weights_only=True)
    assert any(not torch.equal(shipped[name], adapted[name]) for name in shipped)
    state, output = train("ruined", overlays=["configs/adapt.yaml"], **own, learning_rate=10.0)
    assert state["best"]["epoch"] == 0
    kept = torch.load(output / "model.pt", weights_only=True)
    assert all(torch.equal(shipped[name], kept[name]) for name in shipped)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"start_from": "nowhere.pt"}, "nowhere.pt: no such weights"),
        ({"held_planes": [0.6, 0.4]}, "held_planes must be two shares"),
        ({"minutes": -1}, "the time limit must be more than 0"),
        ({"resume": "nowhere.pt"}, "nowhere.pt: no such checkpoint"),
        ({"weights": dict.fromkeys(LossWeights.names(), 0.0)}, "no term of the loss has weight"),
        ({"patch_size": [16, 16]}, "hold too few slices"),
        ({"patch_size": [32, 27], "mixed_from": 7}, "patches of 27 pixels hold too few slices 7 pixels apart"),
        ({"gradient_form": "sum"}, "gradient_form must be one of"),
        ({"protocols::noisy_share": 7}, "noisy_share must be a share"),
        ({"blurred_patch": "$None", "unpaired_from": 7}, "unpaired terms of the loss begin after iteration 7 of 8"),
        ({"validation_patch::patch_size": [20, 20]}, "patches of 20 pixels hold too few slices 6 pixels apart"),
        ({"precision": "float8"}, "precision must be one of auto, float32"),
        ({"weights": {"cycle": 1.0}}, "weights must name exactly the terms"),
        ({"exclude": ["hip*"]}, "fits none of the 4 cases"),
        ({"exclude": ["thick*"], "held_back": 0.0}, "domain X is empty"),
        ({"constant_epochs": 5}, "constant_epochs must be from 0 to max_epochs = 2"),
        ({"learning_rate": 1e30, "clip": None}, "the loss is not finite"),
        ({"patches_per_epoch": 1}, "the patches of an epoch do not fill one batch"),
        ({"validation_patches": 0}, "validation_patches must be whole numbers from 1, got 0"),
        ({"val_interval": 0}, "val_interval must be a whole number of epochs from 1, got 0"),
        ({"val_interval": 5}, "val_interval must divide max_epochs = 2"),
    ],
)
def test_an_impossible_training_is_refused_in_one_line(train, tmp_path, overrides, line):
    with pytest.raises(RuntimeError) as error:
        train(**overrides)
    assert line in str(refusal_of(error.value))
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.slow
def test_two_processes_keep_equal_weights(scans, tmp_path):
    options = {
        **SMALL,
        **SMALL_DISCRIMINATOR,
        "dataset_dir": str(scans),
        "output_dir": str(tmp_path / "two"),
        "device": None,
    }
    arguments = [part for key, value in options.items() if value is not None for part in (f"--{key}", str(value))]
    weights_of_each = tmp_path / "weights_of_each.yaml"
    weights_of_each.write_text(
        '+training:\n- "$torch.save({name: network.state_dict() for name, network in @networks.items()}, '
        "@output_dir + '/process' + str(idist.get_rank()) + '.pt')\"\n"
    )
    configs = f"['configs/train.yaml','configs/multi_gpu.yaml','{weights_of_each}']"
    command = ["-m", "monai.bundle", "run", "training", "--config_file", configs, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    state = torch.load(tmp_path / "two" / "last.pt", weights_only=True)
    assert state["trainer"]["iteration"] == 4  # 8 patches, 2 processes, 2 a batch, 2 epochs
    first, second = (torch.load(tmp_path / "two" / f"process{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, weights in first.items():
        for key, value in weights.items():
            assert torch.equal(value, state[name][key]), (name, key)
            assert torch.equal(value, second[name][key]), (name, key)


@pytest.mark.slow
def test_a_training_with_overlays_starts_from_any_folder(tmp_path):
    files = [str(ROOT / "configs" / name) for name in ("train.yaml", "paper.yaml", "paper_small.yaml")]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    command += ["--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "run")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("refused: "), ended.stderr  # there are no scans in that folder
