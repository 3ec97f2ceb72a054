"""Cases of a run one after the other, each loaded only when the evaluator asks for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ignite.distributed as idist
from monai.data import Dataset

from ..data.case import Case
from ..geometry.progress import Progress
from .record import RunRecord


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
        record: of the run, which decides their order; None: as they are.
        progress: show how many cases are done, as a bar or in the log.
    """

    def __init__(self, dataset: Dataset, record: RunRecord | None = None, progress: bool = True):
        self.dataset, self.record = dataset, record
        self.progress = progress

    @property
    def cases(self) -> list[Case]:
        """All cases, in order."""
        return [item["case"] for item in self.dataset.data]

    def __iter__(self) -> Iterator[PendingCase]:
        """Yield the cases one by one."""
        cases, rank = self.cases, idist.get_rank()
        order = range(len(cases)) if self.record is None else self.record.in_turn(cases)
        for index in Progress(order, self.progress, total=len(cases), desc="cases", unit="case", position=rank):
            yield PendingCase(cases[index], lambda index=index: self.dataset[index])
