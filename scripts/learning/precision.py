"""Floating-point format of the networks on a device."""

from collections.abc import Mapping

import torch

from ..geometry.errors import Refusal

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"


def precision_on(device: torch.device | str, name: str) -> torch.dtype:
    """Return the floating-point format of a name; "auto" takes bfloat16 where the device is faster in it.

    On a CPU these are processors with matrix units for it (AMX), and processors other than Intel's with AVX512-BF16. On
    an Intel Xeon with AVX512-BF16 and without AMX the generator of volumes took 1.5 times as long in bfloat16 as in
    float32; on an AMD EPYC with AVX512-BF16 it is the other way round, 1.8 times.

    "float32" by name also turns TF32 off in the convolutions of CUDA, for the whole process: torch allows it by
    default, and its numbers have 10 bits after the point, not 23.

    Args:
        device: device of the networks.
        name: "auto" (bfloat16 or float32), "float32", "bfloat16" or "float16".

    Raises:
        Refusal: if there is no such format.

    >>> precision_on("cpu", "bfloat16")
    torch.bfloat16
    """
    if name != AUTO:
        if name not in PRECISIONS:
            raise Refusal(f"precision must be one of {', '.join([AUTO, *PRECISIONS])}, got {name!r}")
        if name == "float32":
            torch.backends.cudnn.allow_tf32 = False
        return PRECISIONS[name]
    if torch.device(device).type == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        faster = _is_faster_in_bfloat16(torch.cpu.get_capabilities())
    return torch.bfloat16 if faster else torch.float32


def _is_faster_in_bfloat16(processor: Mapping[str, object]) -> bool:
    """Whether a CPU with these capabilities, as torch names them, convolves faster in bfloat16 than in float32."""
    if processor.get("amx_bf16", False):
        return True
    return bool(processor.get("avx512_bf16", False)) and "Intel" not in str(processor.get("cpu_name", ""))
