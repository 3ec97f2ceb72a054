"""`Refusal`, the error for an input that is not processed, and the reasons behind errors that MONAI has wrapped."""

LONGEST_REASON = 400  # characters; a line that is still read in a terminal and in a table


class Refusal(ValueError):
    """An input that GLADE declines: one line that names the thing, the fact and the way out.

    Raised wherever guessing would give a volume that only looks right. The workflows catch it, list the case as
    refused with this line, go on with the other cases and end with an exit code that is not 0.
    """


def causes(error: BaseException) -> list[BaseException]:
    """The error and those behind it, outermost first: MONAI wraps what a transform or a constructor raised."""
    chain = [error]
    while chain[-1].__cause__ is not None and chain[-1].__cause__ not in chain:
        chain.append(chain[-1].__cause__)
    return chain


def refusal_of(error: BaseException) -> Refusal | None:
    """The Refusal behind an error, or None: a Refusal says all, whatever caused it is detail."""
    return next((e for e in causes(error) if isinstance(e, Refusal)), None)


def one_line(text: str) -> str:
    """The text on one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."


def reason_of(error: BaseException) -> tuple[str, str]:
    """Status and reason of a case that ended with this error.

    Returns:
        ("refused", the refusal's line), or ("failed", kind and message of the error at the root, without paths).
    """
    refusal = refusal_of(error)
    if refusal is not None:
        return "refused", one_line(str(refusal))
    root = causes(error)[-1]
    if isinstance(root, OSError) and root.strerror:
        return "failed", one_line(root.strerror)  # str() of it would add the machine's paths
    return "failed", one_line(f"{type(root).__name__}: {root}")
