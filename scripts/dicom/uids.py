"""Unique identifiers that follow from what they name, so that the same input gives the same files."""

import hashlib
import uuid


def uid_from(*parts: object) -> str:
    """DICOM UID under the UUID root 2.25 (PS3.5, B.2), derived from the text of `parts`.

    Args:
        parts: anything whose text tells this object from every other.

    Returns:
        A UID of at most 44 characters; equal parts give equal UIDs.
    """
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
