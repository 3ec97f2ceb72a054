"""Inference over cases: MONAI's evaluator, which goes on after a case that is refused or fails."""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence

import monai
import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import CommonKeys

from ..data.case import Case
from ..geometry.errors import counted
from .loader import CaseLoader, PendingCase
from .processes import ends_on_sigterm
from .record import RunRecord
from .steps import log_seconds
from .threads import ComputingTime

logger = logging.getLogger(__name__)


class CaseEvaluator(SupervisedEvaluator):
    """Run each case of a `CaseLoader` through loading, inference and postprocessing, inside `record.case`.

    An iteration is a case. The postprocessing, which also saves the result, runs on MODEL_COMPLETED as in MONAI.

    Args:
        record: the record of the run.
        device: where the network is.
        val_data_loader: the cases.
        network: the generator.
        inferer: called with the image (1, 1, X, Y, Z) and the network; returns predictions (1, P, X, Y, Z).
        postprocessing: from the predictions to saved files.
        val_handlers: MONAI's.
        cases: the cases of all processes; None: those of `val_data_loader`.
    """

    data_loader: CaseLoader

    def __init__(
        self,
        record: RunRecord,
        device: torch.device,
        val_data_loader: CaseLoader,
        network: torch.nn.Module,
        inferer: Inferer,
        postprocessing: Callable | None = None,
        val_handlers: Sequence | None = None,
        cases: Sequence[Case] | None = None,
    ):
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            inferer=inferer,
            postprocessing=postprocessing,
            val_handlers=val_handlers,
            decollate=False,
        )
        self.record, self.cases = record, cases
        self._computing = ComputingTime()
        self.logger.setLevel(logging.CRITICAL)  # what ends a run is shown where it ends; Ignite would log it once more

    def run(self) -> None:
        """Process all cases.

        Raises:
            Refusal: before the first case, if the output folder cannot be written to or there are no weights.
        """
        self.record.open()
        self._log_configuration()
        with ends_on_sigterm():
            super().run()
        hint = self._computing.hint(torch.get_num_threads(), os.environ)
        if hint and torch.device(self.state.device).type == "cpu":
            logger.warning(hint)

    def _log_configuration(self) -> None:
        threads = counted(torch.get_num_threads(), "thread")
        logger.debug("%s, %s; torch %s, MONAI %s", self.state.device, threads, torch.__version__, monai.__version__)
        logger.debug("writes %s; weights: %s", ", ".join(self.record.write), self.record.weights_origin)
        logger.debug(
            "settings: %s", ", ".join(f"{name} {json.dumps(value)}" for name, value in self.record.settings.items())
        )

    def _iteration(self, engine: SupervisedEvaluator, batchdata: PendingCase) -> dict:
        """Process one case; the output is empty if the case was skipped, refused or failed."""
        engine.state.batch, engine.state.output = {}, {}
        with self.record.case(batchdata.case) as entry:
            if entry.to_do:
                item = batchdata.load()
                entry.loaded(item[CommonKeys.IMAGE])
                image = item[CommonKeys.IMAGE].to(engine.state.device)
                begun = time.perf_counter()
                with engine.mode(engine.network), self._computing:
                    predictions = engine.inferer(image[None], engine.network)[0]
                log_seconds(item, "the network", begun)
                engine.state.batch = item
                engine.state.output = {CommonKeys.IMAGE: image, CommonKeys.PRED: predictions}
                engine.fire_event(IterationEvents.FORWARD_COMPLETED)
                engine.fire_event(IterationEvents.MODEL_COMPLETED)
                entry.done(engine.state.output[CommonKeys.PRED])
        return engine.state.output
