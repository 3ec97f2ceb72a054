"""One case after the other: loads each, goes on after one that cannot be loaded."""

from collections.abc import Iterator

import ignite.distributed as idist
from monai.data import Dataset, list_data_collate
from tqdm import tqdm

from .fingerprints import image_files, location_hash
from .record import Summary


class CaseLoader:
    """Batches of one case from a MONAI Dataset over case dicts; tells the summary of every case it does not yield.

    Cases that are done already are passed over, cases with a "refusal" and those that fail to load are recorded. A
    batch holds what the transforms left in the case, without empty (None) entries, and "sources", the case's files.
    It has no length on purpose: Ignite would start from the front again to reach it.

    Args:
        dataset: over case dicts, with the transforms from path to network input.
        summary: the record of the run.
        image_key: where the loaded scan is.
        progress: show a bar over the cases, where there is a terminal.
    """

    def __init__(self, dataset: Dataset, summary: Summary, image_key: str = "image", progress: bool = True):
        self.dataset = dataset
        self.summary = summary
        self.image_key = image_key
        self.progress = progress

    def __iter__(self) -> Iterator[dict]:
        """Yields batches of one.

        Raises:
            Refusal: if the output folder cannot be written to, before the first case.
        """
        self.summary.open()
        locations = {location_hash(case) for case in self.dataset.data}
        hidden = None if self.progress else True  # None: hidden where there is no terminal
        cases = tqdm(self.dataset.data, desc="cases", unit="case", disable=hidden, position=idist.get_rank())
        for index, case in enumerate(cases):
            batch = self._load(index, case, locations)
            if batch is not None:
                yield batch

    def _load(self, index: int, case: dict, locations: set[str | None]) -> dict | None:
        if case.get("refusal"):
            self.summary.refused(case, case["refusal"])
            return None
        if self.summary.is_done(case):
            self.summary.kept(case)
            return None
        if self.summary.belongs_to_other_scan(case, locations):
            self.summary.skipped(case)
            return None
        self.summary.begin(case)
        try:
            loaded = self.dataset[index]
            self.summary.loaded(case, loaded[self.image_key])
            batch = list_data_collate([{key: value for key, value in loaded.items() if value is not None}])
        except Exception as error:  # whatever is wrong with one scan, the others are still done
            self.summary.stopped(case, error)
            return None
        sources = [(str(file),) for file in image_files(case)]  # as collated: decollation gives the list back
        return {**batch, "sources": sources}
