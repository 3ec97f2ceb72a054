"""Inference over cases: MONAI's evaluator, which goes on after a case that is refused or fails."""

from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from .fingerprints import location_hash
from .loader import CaseLoader, PendingCase
from .record import RunRecord


class CaseEvaluator(SupervisedEvaluator):
    """Run each case of a `CaseLoader` through loading, inference and postprocessing, inside `record.case`.

    An iteration is a case. The postprocessing, which also saves the result, runs on MODEL_COMPLETED as in MONAI.

    Args:
        record: the record of the run.
        kwargs: for SupervisedEvaluator: device, val_data_loader, network, inferer, postprocessing, val_handlers ...
    """

    data_loader: CaseLoader

    def __init__(self, record: RunRecord, **kwargs):
        super().__init__(decollate=False, **kwargs)
        self.record = record
        self._locations: set[str | None] = set()

    def run(self) -> None:
        """Process all cases.

        Raises:
            Refusal: before the first case, if the output folder cannot be written to or there are no weights.
        """
        self.record.open()
        self._locations = {location_hash(case) for case in self.data_loader.cases}
        super().run()

    def _iteration(self, engine: SupervisedEvaluator, batchdata: PendingCase) -> dict:
        """One case; an empty output if there was nothing to do or it did not end well."""
        engine.state.batch, engine.state.output = {}, {}
        with self.record.case(batchdata.case, self._locations) as entry:
            if entry.to_do:
                item = batchdata.load()
                entry.loaded(item[CommonKeys.IMAGE])
                image = item[CommonKeys.IMAGE].to(engine.state.device)
                with engine.mode(engine.network):
                    predictions = engine.inferer(image[None], engine.network)[0]
                engine.state.batch = item
                engine.state.output = {CommonKeys.IMAGE: image, CommonKeys.PRED: predictions}
                engine.fire_event(IterationEvents.FORWARD_COMPLETED)
                engine.fire_event(IterationEvents.MODEL_COMPLETED)
                entry.done(engine.state.output[CommonKeys.PRED])
        return engine.state.output
