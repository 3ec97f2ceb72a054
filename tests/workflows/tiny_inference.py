"""A small inference workflow around the parts of scripts/data, with an inferer that gives the scan back."""

import os
import signal
from pathlib import Path

from monai.inferers import Inferer

ROOT = Path(__file__).parents[2]

CONFIG = """
imports:
  - $import scripts
  - $import scripts.data.cases
  - $import scripts.data.settings
bundle_root: .
dataset_dir: scans
output_dir: out
frames: all
through_plane_axis: auto
slice_thickness_mm: null
slice_profile: auto
redo: false
device: $torch.device('cpu')
network_def: {_target_: torch.nn.Identity}
settings:
  frames: "@frames"
  through_plane_axis: "@through_plane_axis"
  slice_thickness_mm: "@slice_thickness_mm"
  slice_profile: "@slice_profile"
summary:
  _target_: scripts.data.summary.Summary
  output_dir: "@output_dir"
  settings: "@settings"
  redo: "@redo"
cases: $scripts.data.cases.find_nifti(@dataset_dir, @frames)
share: $scripts.data.cases.partition(scripts.data.cases.require_cases(@cases, @dataset_dir))
preprocessing:
  _target_: Compose
  transforms:
    - _target_: scripts.data.readers.LoadImageCased
      keys: image
      readers:
        nifti: {_target_: scripts.data.readers.NiftiScanReader}
    - _target_: scripts.data.acceptance.Protocold
      keys: image
      through_plane_axis: "@through_plane_axis"
      slice_thickness_mm: "@slice_thickness_mm"
      slice_profile: "@slice_profile"
    - _target_: scripts.data.acceptance.Acceptd
      keys: image
      smallest_window_voxels: 16
dataset:
  _target_: Dataset
  data: "@share"
  transform: "@preprocessing"
loader:
  _target_: scripts.data.loader.CaseLoader
  dataset: "@dataset"
  summary: "@summary"
inferer: {_target_: tests.workflows.tiny_inference.IdentityInferer}
postprocessing:
  _target_: Compose
  transforms:
    - _target_: scripts.data.saving.SaveImageCased
      keys: pred
      postfixes: [glade]
      output_dir: "@output_dir"
evaluator:
  _target_: scripts.data.evaluator.CaseEvaluator
  summary: "@summary"
  device: "@device"
  val_data_loader: "@loader"
  network: "@network_def"
  inferer: "@inferer"
  postprocessing: "@postprocessing"
inference:
  - $scripts.data.settings.refuse_unknown_overrides()
  - $@evaluator.run()
  - $@summary.conclude()
"""


class IdentityInferer(Inferer):
    """Gives the scan back; kills its own process on a voxel of -1 where KILL_ON_MARK is set."""

    def __call__(self, inputs, network, *args, **kwargs):
        if inputs.min() == -1 and "KILL_ON_MARK" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return inputs


def write_config(folder: Path) -> Path:
    path = folder / "configs" / "inference.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    return path
