"""MONAI Label's requests `infer` and `info` and no others; every error becomes an HTTP status and one line.

Label's other requests would let whoever reaches the port delete the weights (DELETE /model/glade), write among the
studies (PUT /datastore/image), or read its responses from any web page.
"""

import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel import app as label_app
from monailabel.config import settings
from monailabel.endpoints import infer, info
from monailabel.endpoints.user.auth import RBAC
from starlette.exceptions import HTTPException  # FastAPI's own is one of these, and its parser raises these

from .access import NAMES, OwnNamesOnly
from .glue import RequestError, error_for, require_object
from .stopping import heed_signals

FORESEEN = (RequestError, HTTPException, RequestValidationError, OSError, TypeError, ValueError)
ONE_AT_A_TIME = threading.Lock()  # the model has one set of settings, and the machine one set of cores


async def respond(_: Request, error: Exception) -> JSONResponse:
    """Send the error to the client."""
    found = _error_for(error)
    return JSONResponse({"detail": found.line}, found.status)


def _error_for(error: Exception) -> RequestError:
    found = error_for(error)
    if found.status != 500:  # also the full disk behind Label's "error parsing the body"
        return found
    if isinstance(error, HTTPException):
        return RequestError(error.status_code, error.detail)
    if isinstance(error, RequestValidationError):
        return RequestError(422, "; ".join(f"{wrong['loc'][-1]}: {wrong['msg']}" for wrong in error.errors()))
    if isinstance(error, (TypeError, ValueError)):  # errors while Label reads the request, before our code runs
        return RequestError(400, f"the request cannot be read ({error})")
    return found


def no_labels(output: str = "") -> None:
    """Refuse output=dicom_seg: Label would compute the result, fail to send it, and leave its file behind."""
    if output == "dicom_seg":
        raise RequestError(422, "output must be image, json or all: the result is no segmentation")


@asynccontextmanager
async def lifespan(served: FastAPI) -> AsyncIterator[None]:
    """Let Label start its app; from then on the request in hand ends when the server is to stop."""
    heed_signals()
    async with label_app.lifespan(served):
        yield


app = FastAPI(title="GLADE", lifespan=lifespan, docs_url=None, redoc_url=None)
app.add_middleware(OwnNamesOnly, names=os.environ.get(NAMES, "").splitlines())
app.include_router(info.router)
for kind in (*FORESEEN, Exception):  # of an unforeseen one, the log keeps the traceback
    app.add_exception_handler(kind, respond)


@app.post("/infer/{model}", dependencies=[Depends(no_labels), Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))])
def process(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile | None = File(None),
    output: infer.ResultType | None = None,
) -> Response:
    """Process one study, as Label's own request does.

    FastAPI runs a plain function in a thread of its own, so the server still responds to others and to signals; Label's
    own request, a coroutine, would block both.

    Raises:
        RequestError, HTTPException: whatever goes wrong; the upload is then removed, which Label would keep.
    """
    require_object(params)
    with ONE_AT_A_TIME:
        try:
            return infer.run_inference(background_tasks, model, image, session_id, params, file, None, output)
        except BaseException:
            for path in Path(tempfile.gettempdir()).iterdir():  # results have a folder of their own
                if path.is_file():
                    path.unlink(missing_ok=True)
            raise
