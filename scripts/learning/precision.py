"""Floating-point format of the networks on a device."""

import torch

from ..geometry.errors import Refusal

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"


def precision_on(device: torch.device | str, name: str) -> torch.dtype:
    """Return the floating-point format of a name; "auto" takes bfloat16 where the device computes in it natively.

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
        return PRECISIONS[name]
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32
