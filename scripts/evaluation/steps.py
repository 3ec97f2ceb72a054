"""The steps of an evaluation in their order."""

from collections.abc import Sequence


class Evaluation:
    """The steps of an evaluation, run one after the other.

    Each step checks its settings in its constructor. All steps exist before the first one runs, so that a wrong setting
    stops the evaluation before it has taken hours.

    Args:
        steps: objects whose `run()` does the work and records what fails, in the order in which they run.

    >>> class Hello:
    ...     def run(self):
    ...         print("hello")
    >>> Evaluation([Hello(), Hello()]).run()
    hello
    hello
    """

    def __init__(self, steps: Sequence):
        self.steps = list(steps)

    def run(self) -> None:
        """Run all steps."""
        for step in self.steps:
            step.run()
