"""The steps of an evaluation in their order."""

from collections.abc import Sequence


class Evaluation:
    """Runs the steps of an evaluation one after the other.

    It takes them ready-made: by then every constructor has checked its settings, so that a wrong one stops the
    evaluation before the hours that the first steps can take.

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
