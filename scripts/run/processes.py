"""Several processes that train one set of networks together, started by torchrun."""

import os

import ignite.distributed as idist
import torch

from ..geometry.errors import Refusal


def join_processes() -> torch.device:
    """Meet the other processes (NCCL with a GPU each, else gloo) and return this one's device.

    Raises:
        Refusal: if torchrun did not start this process.
    """
    if "LOCAL_RANK" not in os.environ:
        raise Refusal("configs/multi_gpu.yaml needs torchrun: torchrun --nproc_per_node=N -m monai.bundle run ...")
    if idist.backend() is None:
        idist.initialize("nccl" if torch.cuda.is_available() else "gloo")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
