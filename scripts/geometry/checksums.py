"""Checksums of weights and checkpoints: damaged files, and changed copies of the shipped ones, are refused."""

import functools
import hashlib
import json
import os
import zipfile
from pathlib import Path

from .errors import Refusal

BUNDLE = Path(__file__).resolve().parents[2]
METADATA = BUNDLE / "configs" / "metadata.json"  # its weights_sha256 has the checksum of each shipped file
MODELS = BUNDLE / "models"
SHIPPED, OWN = "shipped", "own"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def origin_of(*checksums: str | None) -> str:
    """Return "shipped" if all weights with these SHA-256 ship with the bundle, else "own"; None stands for no weights.

    >>> origin_of("ab" * 32, None)
    'own'
    """
    return SHIPPED if set(checksums) - {None} <= set(_shipped().values()) else OWN


def require_intact(path: str | os.PathLike[str]) -> None:
    """Refuse a damaged file of weights or checkpoint, and a shipped one that is not as shipped.

    A file of `torch.save` is a zip archive that holds a CRC-32 of each tensor. `torch.load` does not check it: one
    flipped bit gives other weights and other results.

    Raises:
        Refusal: if the file is no such archive, a checksum in it does not match its content, or it is a changed copy of
            a shipped file in that one's place.
        OSError: if it cannot be read.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError:
        raise
    except Exception as error:
        reason = type(error).__name__
        raise Refusal(
            f"{path}: not a file of weights, damaged, or saved by PyTorch before 1.6 ({reason}): fetch it again"
        ) from error
    if damaged is not None:
        raise Refusal(f"{path}: damaged (the checksum of {damaged} does not match): fetch it again or train anew")
    expected = _shipped().get(path.name) if path.resolve().parent == MODELS else None
    if expected is not None and (found := sha256_of(path)) != expected:
        raise Refusal(
            f"{path}: not as shipped (SHA-256 {found[:16]}..., {METADATA.name} says {expected[:16]}...): fetch the "
            f"bundle again, or give your own weights another place and name it by --weights_path"
        )


@functools.cache
def _shipped() -> dict[str, str]:
    """{file name in models: SHA-256} of the weights that ship with this bundle."""
    return dict(json.loads(METADATA.read_text(encoding="utf-8"))["weights_sha256"])
