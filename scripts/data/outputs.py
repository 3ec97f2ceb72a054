"""What a run writes for each case: the setting `write`."""

from collections.abc import Sequence

from ..geometry.errors import Refusal

VOLUME, DICOM_SERIES, REPORT_PAGE = "volume", "dicom", "report"
OUTPUTS = (VOLUME, "added_detail", "uncertainty", DICOM_SERIES, REPORT_PAGE)
OUTPUTS_OF_STACKS = (VOLUME, "added_detail", "uncertainty", "coverage", "residual", DICOM_SERIES, REPORT_PAGE)
ALL = "all"


def chosen_outputs(write: str | Sequence[str], outputs: Sequence[str] = OUTPUTS) -> list[str]:
    """Return what is to be written, each once, in the order of `outputs`.

    Args:
        write: names of `outputs`, as a list or separated by commas; added-detail too; or "all".
        outputs: what the workflow can write.

    Raises:
        Refusal: if a name is unknown, or there is none.

    >>> chosen_outputs("report,volume"), chosen_outputs(["added-detail"])
    (['volume', 'report'], ['added_detail'])
    """
    named = write.split(",") if isinstance(write, str) else write
    is_list = isinstance(named, Sequence) and all(isinstance(name, str) for name in named)
    names = {name.strip().replace("-", "_") for name in named} if is_list else set()
    if not names or names - {*outputs, ALL}:
        raise Refusal(f"write must name what is wanted of {', '.join(outputs)}, or all; got {write!r}")
    return [name for name in outputs if ALL in names or name in names]
