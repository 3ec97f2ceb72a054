"""The app that MONAI Label serves: one model, this bundle."""

import tempfile
from pathlib import Path

from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp

from scripts.run.bundle import bundle_version

from .glue import MODEL, RequestError, require_known, study_of
from .task import GladeTask


class GladeApp(MONAILabelApp):
    """MONAI Label's app with the one model `glade`; no training, no labels.

    Args:
        app_dir: Label's working folder.
        studies: folder that is served, and only read.
        conf: Label's --conf.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]):
        super().__init__(
            app_dir,
            studies,
            conf,
            name="GLADE",
            description="thick slices to isotropic volumes",
            version=bundle_version(),
        )

    def init_datastore(self) -> LocalDatastore:
        """Return an empty datastore in the working folder; Label would write its list of labels among the studies."""
        return LocalDatastore(str(Path(self.app_dir) / "labels"))

    def init_infers(self) -> dict[str, GladeTask]:
        """Return the only model."""
        return {MODEL: GladeTask(self.conf)}

    def infer(self, request: dict, datastore: object = None) -> dict:
        """Process one study.

        Raises:
            RequestError: whatever goes wrong.
        """
        if request.get("model") != MODEL:
            raise RequestError(404, f"no model is called {request.get('model')!r}: there is {MODEL}")
        require_known(request)
        study = study_of(request.get("image"), Path(self.studies), Path(tempfile.gettempdir()))
        return super().infer({**request, "image": str(study)}, datastore)
