"""DICOM UIDs that are derived from content, so that the same input gives the same files."""

import hashlib
import uuid


def uid_from(*parts: object) -> str:
    """Return a UID under the UUID root 2.25 (PS3.5, B.2) that is a hash of the text of `parts`.

    Args:
        parts: objects whose text together distinguishes the named object from all others.

    Returns:
        A UID of at most 44 characters; equal parts give equal UIDs.

    >>> uid_from("series", 1)
    '2.25.145814378416314923715698249947597551307'
    """
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
