"""`Refusal`, the error for an input that is not processed, and the original cause of errors that MONAI wraps."""

import errno

SURROGATES = 0xDC00  # a byte b of a file name that is no UTF-8 is the character SURROGATES + b
INTERRUPTED = (
    "interrupted: what is complete is kept; what was in hand, such as all stacks of a study, begins again "
    "with the same command"
)
LONGEST_REASON = 400  # characters; longer lines are unreadable in a terminal and in a table


class Refusal(ValueError):
    """An input that GLADE does not process; the message, one line, names the item, the problem and the remedy.

    Raised where a guess could give a volume that looks right and is wrong. The workflows catch it, list the case as
    refused with this message, continue with the other cases and exit with a code other than 0.

    Args:
        message: its text; characters that would change how the line is displayed are escaped, see `printable`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    r"""Return a text with escapes for characters that cannot be printed, or that change how the line is displayed.

    Names of files may hold line breaks, terminal commands, marks that reverse the reading direction, and bytes that are
    no UTF-8, which Python keeps as lone surrogates (PEP 383): a line of a log would otherwise look like another one, or
    like two.

    >>> printable("slice\u202e\n.dcm"), printable("T2\udcff.nii")
    ('slice\\u202e\\n.dcm', 'T2\\xff.nii')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    """A lone surrogate as the byte that it stands for, another character as Python writes it in a literal."""
    code = ord(character)
    return f"\\x{code - SURROGATES:02x}" if 0x80 <= code - SURROGATES <= 0xFF else ascii(character)[1:-1]


def why_unavailable(error: BaseException) -> str:
    """Return why a file that was found before cannot be opened or read; "" where its content is to blame.

    >>> why_unavailable(FileNotFoundError(2, "No such file or directory")), why_unavailable(EOFError())
    ('no such file any more: removed, renamed or a broken link', '')
    >>> why_unavailable(PermissionError(13, "Permission denied"))
    'permission denied'
    """
    if isinstance(error, FileNotFoundError):
        return "no such file any more: removed, renamed or a broken link"
    # EINVAL is also the error of a damaged file that leads its reader to a place before the file's beginning.
    if not isinstance(error, OSError) or not error.strerror or error.errno == errno.EINVAL:
        return ""
    return error.strerror[0].lower() + error.strerror[1:]


def causes(error: BaseException) -> list[BaseException]:
    """Return the error and its chain of causes, outermost first; MONAI wraps the errors of transforms.

    >>> try:
    ...     raise RuntimeError("applying transform") from ValueError("no such axis")
    ... except RuntimeError as error:
    ...     causes(error)
    [RuntimeError('applying transform'), ValueError('no such axis')]
    """
    chain = [error]
    while chain[-1].__cause__ is not None and chain[-1].__cause__ not in chain:
        chain.append(chain[-1].__cause__)
    return chain


def refusal_of(error: BaseException) -> Refusal | None:
    """Return the first Refusal in the chain of causes of an error, or None."""
    return next((e for e in causes(error) if isinstance(e, Refusal)), None)


def one_line(text: str) -> str:
    """Return the text on one line, printable, cut to `LONGEST_REASON` characters.

    >>> one_line("no   slices here")
    'no slices here'
    """
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for messages.

    >>> counted(1, "case"), counted(0, "case")
    ('1 case', '0 cases')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def reason_of(error: BaseException) -> tuple[str, str]:
    """Return status and reason of a case that ended with this error.

    Returns:
        ("refused", message of the Refusal), or ("failed", type and message of the innermost error, without paths).

    >>> reason_of(Refusal("scan.nii: 2 slices, 5 are needed"))
    ('refused', 'scan.nii: 2 slices, 5 are needed')
    >>> reason_of(ValueError("bad shape"))
    ('failed', 'ValueError: bad shape')
    """
    refusal = refusal_of(error)
    if refusal is not None:
        return "refused", one_line(str(refusal))
    root = causes(error)[-1]
    if isinstance(root, OSError) and root.strerror:
        return "failed", one_line(root.strerror)  # str(root) would add paths of this machine
    return "failed", one_line(f"{type(root).__name__}: {root}")
