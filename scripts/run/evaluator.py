"""Inference over cases: MONAI's evaluator, which goes on after a case that breaks."""

import torch
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys

from .record import Summary


class CaseEvaluator(SupervisedEvaluator):
    """SupervisedEvaluator over a `CaseLoader`: each case ends in the summary, well or with a reason.

    The inferer's output is "pred"; the postprocessing (which runs within the iteration, on MODEL_COMPLETED) saves it.
    A "residual" (a number) that either leaves in the output or in pred's meta goes into the row.

    Args:
        summary: the record of the run.
        kwargs: for SupervisedEvaluator: device, val_data_loader, network, inferer, postprocessing, val_handlers ...
    """

    def __init__(self, summary: Summary, **kwargs):
        super().__init__(**kwargs)
        self.summary = summary

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, torch.Tensor]) -> dict | list:
        """One case: inference and postprocessing; an empty output if it broke."""
        case = batchdata["case"][0]
        try:
            super()._iteration(engine, batchdata)
            output = engine.state.output[0]
            pred = output[CommonKeys.PRED]
            residual = output.get("residual", pred.meta.get("residual"))
            self.summary.done(case, pred, residual)
        except Exception as error:  # whatever is wrong with one scan, the others are still done
            self.summary.stopped({"case": case}, error)
            engine.state.output = []
        return engine.state.output
