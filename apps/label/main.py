"""The app that MONAI Label serves: one model, the bundle this folder belongs to."""

import tempfile
from pathlib import Path

from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp

from scripts.run.version import bundle_version

from .glue import MODEL, Answer, require_known, study_of
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
        """An empty one in the working folder: Label would write its book of labels among the studies."""
        return LocalDatastore(str(Path(self.app_dir) / "labels"))

    def init_infers(self) -> dict[str, GladeTask]:
        """The one model."""
        return {MODEL: GladeTask(self.conf)}

    def infer(self, request: dict, datastore: object = None) -> dict:
        """One study through the bundle.

        Raises:
            Answer: whatever goes wrong.
        """
        if request.get("model") != MODEL:
            raise Answer(404, f"no model is called {request.get('model')!r}: there is {MODEL}")
        require_known(request)
        study = study_of(request.get("image"), Path(self.studies), Path(tempfile.gettempdir()))
        return super().infer({**request, "image": str(study)}, datastore)
