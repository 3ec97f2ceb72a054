"""MONAI Label's requests `infer` and `info` and no others; every error becomes an HTTP status and one line.

Label's other requests would let whoever reaches the port delete the weights (DELETE /model/glade), write among the
studies (PUT /datastore/image), or read its responses from any web page.
"""

import tempfile
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.app import lifespan
from monailabel.endpoints import infer, info
from starlette.exceptions import HTTPException  # FastAPI's own is one of these, and its parser raises these

from .glue import RequestError, error_for

FORESEEN = (RequestError, HTTPException, RequestValidationError, OSError, TypeError, ValueError)


async def respond(_: Request, error: Exception) -> JSONResponse:
    """Send the error to the client; remove the upload, which Label keeps unless the request succeeded."""
    for file in Path(
        tempfile.gettempdir()
    ).iterdir():  # Label processes one request at a time; results have their own folder
        if file.is_file():
            file.unlink(missing_ok=True)
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
    if isinstance(error, (TypeError, ValueError)):  # errors while Label parses the params, before our code runs
        return RequestError(400, f"params must be a JSON object ({error})")
    return found


def no_labels(output: str = "") -> None:
    """Refuse output=dicom_seg: Label would compute the result, fail to send it, and leave its file behind."""
    if output == "dicom_seg":
        raise RequestError(422, "output must be image, json or all: the result is no segmentation")


app = FastAPI(title="GLADE", lifespan=lifespan, docs_url=None, redoc_url=None)
app.include_router(info.router)
app.include_router(infer.router, dependencies=[Depends(no_labels)])
for kind in (*FORESEEN, Exception):  # of an unforeseen one, the log keeps the traceback
    app.add_exception_handler(kind, respond)
