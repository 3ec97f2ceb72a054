"""Software and weights that made a derived series, as its header states them."""

from dataclasses import dataclass

from ..geometry.checksums import SHIPPED, origin_of

CHECKSUM_DIGITS = 16
"""Digits of a checksum in SoftwareVersions, whose values hold 64 characters at most (PS3.5, 6.2)."""
MAX_VERSION = 64


@dataclass(frozen=True)
class Provenance:
    """Version of this bundle, and the weights that were used; "" for what is not known.

    Attributes:
        version: version of this bundle.
        weights_sha256: SHA-256 of the faithful weights, in hexadecimal digits.
        sharp_weights_sha256: SHA-256 of the sharp weights; "" where the faithful weights were used alone.
        sharpness: share of the sharp weights in the interpolation, 0 to 1; without meaning where there are none.

    >>> Provenance("1.0.0", "ab" * 32, "cd" * 32, 0.5).software_versions
    ['1.0.0', 'own weights abababababababab', 'sharpness 0.5']
    """

    version: str = ""
    weights_sha256: str = ""
    sharp_weights_sha256: str = ""
    sharpness: float = 0.0

    @property
    def interpolated(self) -> bool:
        """Whether the weights lie between the faithful and the sharp ones."""
        return bool(self.weights_sha256 and self.sharp_weights_sha256)

    @property
    def weights(self) -> str:
        """Checksum of the weights; of interpolated weights both checksums and the sharpness.

        >>> Provenance("1.0.0", "ab12", "cd34", 0.5).weights
        'ab12 mixed with cd34 at 0.5'
        """
        if not self.interpolated:
            return self.weights_sha256
        return f"{self.weights_sha256} mixed with {self.sharp_weights_sha256} at {self.sharpness:g}"

    @property
    def software_versions(self) -> list[str]:
        """Values of SoftwareVersions: version, first digits of the weights' checksum, sharpness, each where known.

        Weights that do not ship with this bundle are called "own weights".
        """
        known = [self.version] if self.version else []
        if self.weights_sha256:
            origin = origin_of(self.weights_sha256, self.sharp_weights_sha256 or None)
            name = "weights" if origin == SHIPPED else f"{origin} weights"
            known.append(f"{name} {self.weights_sha256[:CHECKSUM_DIGITS]}")
        if self.interpolated:
            known.append(f"sharpness {self.sharpness:g}")
        return [value[:MAX_VERSION] for value in known]
