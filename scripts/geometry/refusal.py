"""The one error that says: this input is not processed, and here is why."""


class Refusal(ValueError):
    """An input that GLADE declines: one line that names the thing, the fact and the way out.

    Raised wherever guessing would give a volume that only looks right. The workflows catch it, list the case as
    refused with this line, go on with the other cases and end with an exit code that is not 0.
    """
