"""The app's operators: the SDK's own where they keep geometry and values, ours where they do not."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from monai.deploy.core import AppContext, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator

from scripts.geometry.errors import Refusal, reason_of

from .glue import Bundle, Scan, one_file_a_series

IMAGE, PRED, SELECTED = "image", "pred", "study_selected_series_list"


class SeriesLoader(DICOMDataLoaderOperator):
    """The SDK's loader, given one file of each series, which is enough for the selection rules."""

    def _list_files(self, path: Path, files: list[str]) -> None:
        files += one_file_a_series(path)


class SeriesSelector(DICOMSeriesSelectorOperator):
    """The SDK's selector over all series; a rule that it cannot apply becomes a one-line refusal."""

    def __init__(self, fragment: Fragment, *args, bundle: Bundle, **kwargs):
        """Keep the refusal in the bundle's `refusal`."""
        self.bundle = bundle
        super().__init__(fragment, *args, all_matched=True, **kwargs)

    def filter(self, *args, **kwargs) -> list:
        """Return the selected series of each study; none where a rule does not fit the type of its attribute."""
        try:
            return super().filter(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the SDK's rules can raise anything; the refusal says so
            self.bundle.refusal = Refusal(f"the selection rules do not fit these series: {reason_of(error)[1]}")
            return []


class SeriesReader(Operator):
    """Our series check and reader in place of the SDK's, which swaps row and column spacing in the affine."""

    def __init__(self, fragment: Fragment, *args, folder: Path, bundle: Bundle, **kwargs):
        """Read below `folder`; a refusal of the whole run goes to the bundle's `refusal`."""
        self.folder, self.bundle = folder, bundle
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports: selected series in, scans out."""
        spec.input(SELECTED)
        spec.output(IMAGE)

    def compute(self, op_input, op_output, context) -> None:
        """Emit an iterator that reads one volume when the next one is asked for."""
        studies = op_input.receive(SELECTED) or []
        series = [str(chosen.series.SeriesInstanceUID) for study in studies for chosen in study.selected_series]
        try:
            cases = self.bundle.admit(self.folder, series)
        except Refusal as refusal:
            self.bundle.refusal, cases = self.bundle.refusal or refusal, []
        op_output.emit(self.bundle.read(cases), IMAGE)


class GladeOperator(MonaiBundleInferenceOperator):
    """The SDK's bundle operator without three of its steps.

    Left out are its cast to 8 bits, the input's meta data on the output, and random or default weights where a setting
    asks for others.
    """

    def __init__(self, fragment: Fragment, *args, app_context: AppContext, bundle: Bundle, **kwargs):
        """Set the bundle's own inferer, transforms and device in place of those that the SDK would make."""
        self.bundle = bundle
        super().__init__(
            fragment,
            *args,
            app_context=app_context,
            input_mapping=[IOMapping(IMAGE, Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping(PRED, Image, IOType.IN_MEMORY)],
            **kwargs,
        )
        self._inputs = self._outputs = dict.fromkeys([PRED])
        self._inferer, self._device = bundle.part("inferer"), bundle.part("device")
        self._preproc, self._postproc = bundle.transforms("preprocessing"), bundle.transforms("postprocessing")

    def compute(self, op_input, op_output, context) -> None:
        """Emit an iterator of results."""
        op_output.emit(self.results(op_input.receive(IMAGE)), PRED)

    def results(self, scans: Iterable[Scan]) -> Iterator[Scan]:
        """Yield one super-resolved volume after the other, float32, on the isotropic grid."""
        for scan in scans:
            try:
                result = replace(scan, image=self.result(scan))
            except Exception as error:  # noqa: BLE001 - one faulty series must not stop the others
                scan.entry.failed(error)
            else:
                yield result

    @torch.no_grad()
    def result(self, scan: Scan):
        """Run the SDK's steps for one volume."""
        self._model_network = self._model_network or self.bundle.network()
        inputs = self.pre_process({"case": scan.entry.case, IMAGE: scan.image})
        scan.entry.loaded(inputs[IMAGE])
        views = self.predict(data=inputs[IMAGE][None].to(self._device))
        return self.post_process(views[0], **{self.kw_preprocessed_inputs: inputs})[PRED]


class DerivedSeriesWriter(Operator):
    """Our writer of derived MR series; the SDK has none for images."""

    def __init__(self, fragment: Fragment, *args, bundle: Bundle, **kwargs):
        """Write into the bundle's output folder."""
        self.bundle = bundle
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the input port: results."""
        spec.input(PRED)

    def compute(self, op_input, op_output, context) -> None:
        """Write the volumes; each is read and processed when it is asked for, one at a time."""
        self.bundle.write(op_input.receive(PRED))
