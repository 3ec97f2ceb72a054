"""GLADE as a MONAI Deploy application: `python -m apps.deploy --input FOLDER --output OUT`."""

import logging
import os
import sys
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application

from scripts.geometry.errors import Refusal, one_line, refusal_of

from .glue import BUNDLE, Bundle, rules, without_descriptions
from .operators import (
    IMAGE,
    PRED,
    SELECTED,
    DerivedSeriesWriter,
    GladeOperator,
    SeriesLoader,
    SeriesReader,
    SeriesSelector,
)


class GladeApp(Application):
    """Loader, selector, our reader, the bundle, our writer."""

    def __init__(self, context: AppContext, selection: str, bundle: Bundle):
        """Take the SDK's context, the selection rules as JSON text, and the bundle."""
        self.context, self.selection, self.bundle = context, selection, bundle
        super().__init__()

    def compose(self) -> None:
        """Connect the operators one after the other."""
        folder, bundle = Path(self.context.input_path), self.bundle
        # without CountCondition the loader rescans the folder endlessly
        loader = SeriesLoader(self, CountCondition(self, 1), input_folder=folder, must_load=False, name="loader")
        selector = SeriesSelector(self, rules=self.selection, bundle=bundle, name="selector")
        reader = SeriesReader(self, folder=folder, bundle=bundle, name="reader")
        glade = GladeOperator(self, app_context=self.context, bundle=bundle, name="glade")
        writer = DerivedSeriesWriter(self, bundle=bundle, name="writer")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, reader, {(SELECTED, SELECTED)})
        self.add_flow(reader, glade, {(IMAGE, IMAGE)})
        self.add_flow(glade, writer, {(PRED, PRED)})


def context_of(arguments: list[str]) -> AppContext:
    """Return the SDK's context from its options, or from the variables of a container.

    Raises:
        Refusal: a folder is not said, or the output folder cannot be made.
    """
    try:
        context = Application.init_app_context(arguments)
    except OSError as error:
        raise Refusal(f"{error.filename} cannot be made ({error.strerror}): give another --output") from None
    if not context.input_path or not context.output_path:
        raise Refusal("no folders: give --input and --output, or HOLOSCAN_INPUT_PATH and HOLOSCAN_OUTPUT_PATH")
    return context


def main() -> int:
    """Run the app; the exit code is 0 where every selected series is done, else 1."""
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "WARN")  # Holoscan's INFO log would bury the one-line message
    try:
        context = context_of(sys.argv)
        for handler in logging.getLogger().handlers:
            handler.addFilter(without_descriptions)
        bundle = Bundle(BUNDLE, Path(context.output_path).resolve())
        GladeApp(context, rules(), bundle).run()
        if bundle.refusal:
            raise bundle.refusal
        bundle.record.conclude()
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        sys.stderr.write(f"refused: {one_line(str(refusal))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
