"""Cases of a run one after the other, each loaded only when the evaluator asks for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ignite.distributed as idist
from monai.data import Dataset

from ..data.case import Case
from ..geometry.progress import Progress


@dataclass(frozen=True)
class PendingCase:
    """A case that is not loaded yet; loading is part of what the run record guards.

    Attributes:
        case: the case.
        load: reads and prepares it; returns the data item with the network's input.
    """

    case: Case
    load: Callable[[], dict]


class CaseLoader:
    """Iterate over the cases of a MONAI Dataset without loading them.

    It has no length on purpose: Ignite would start again from the first case to reach it.

    Args:
        dataset: over the data items of cases (`Case.as_item`), with the transforms from path to network input.
        progress: show how many cases are done, as a bar or in the log.
    """

    def __init__(self, dataset: Dataset, progress: bool = True):
        self.dataset = dataset
        self.progress = progress

    @property
    def cases(self) -> list[Case]:
        """All cases, in order."""
        return [item["case"] for item in self.dataset.data]

    def __iter__(self) -> Iterator[PendingCase]:
        """Yield the cases in order."""
        cases = Progress(self.cases, self.progress, desc="cases", unit="case", position=idist.get_rank())
        for index, case in enumerate(cases):
            yield PendingCase(case, lambda index=index: self.dataset[index])
