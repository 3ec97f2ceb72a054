"""Tests of scripts/learning/precision.py: the format that "auto" takes on a processor."""

import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.learning.precision import precision_on

AMD = {"cpu_name": "AMD EPYC 9R14", "avx512_bf16": True, "amx_bf16": False}
XEON = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}
MATRIX_UNITS = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}
OLD = {"cpu_name": "Intel Xeon", "avx512_bf16": False, "amx_bf16": False}
ARM = {"architecture": "aarch64"}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (AMD, torch.bfloat16),
        (MATRIX_UNITS, torch.bfloat16),
        (XEON, torch.float32),  # measured: 1.5 times as long in bfloat16
        (OLD, torch.float32),
        (ARM, torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert precision_on("cpu", "auto") == expected


def test_a_named_format_is_taken_on_any_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: OLD)
    assert precision_on("cpu", "bfloat16") == torch.bfloat16


def test_float32_by_name_is_not_tf32_on_cuda_and_auto_leaves_it(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # and set back at the end
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: OLD)
    for name, allowed in (("auto", True), ("bfloat16", True), ("float32", False)):
        precision_on("cpu", name)
        assert torch.backends.cudnn.allow_tf32 is allowed


def test_an_unknown_format_is_refused():
    with pytest.raises(Refusal, match="precision must be one of auto, float32, bfloat16, float16"):
        precision_on("cpu", "half")
