"""MONAI Label's requests `infer` and `info`, and nothing else of it; whatever goes wrong, a status and one line.

Label's other requests would let whoever reaches the port delete the weights (DELETE /model/glade), write among the
studies (PUT /datastore/image), or read its answers from any web page.
"""

import tempfile
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.app import lifespan
from monailabel.endpoints import infer, info
from starlette.exceptions import HTTPException  # FastAPI's own is one of these, and its parser raises these

from .glue import Answer, answer_for

FORESEEN = (Answer, HTTPException, RequestValidationError, OSError, TypeError, ValueError)


async def answer(_: Request, error: Exception) -> JSONResponse:
    """Tells the client; removes the upload, which Label leaves behind unless all went well."""
    for file in Path(tempfile.gettempdir()).iterdir():  # Label has one request in hand; results have their own folder
        if file.is_file():
            file.unlink(missing_ok=True)
    told = _answer_for(error)
    return JSONResponse({"detail": told.line}, told.status)


def _answer_for(error: Exception) -> Answer:
    told = answer_for(error)
    if told.status != 500:  # also the full disk behind Label's "error parsing the body"
        return told
    if isinstance(error, HTTPException):
        return Answer(error.status_code, error.detail)
    if isinstance(error, RequestValidationError):
        return Answer(422, "; ".join(f"{wrong['loc'][-1]}: {wrong['msg']}" for wrong in error.errors()))
    if isinstance(error, (TypeError, ValueError)):  # Label has read the params before the app sees them
        return Answer(400, f"params must be a JSON object ({error})")
    return told


def no_labels(output: str = "") -> None:
    """Label would compute the result, then find that it cannot answer, and leave the result behind."""
    if output == "dicom_seg":
        raise Answer(422, "output must be image, json or all: the result is no segmentation")


app = FastAPI(title="GLADE", lifespan=lifespan, docs_url=None, redoc_url=None)
app.include_router(info.router)
app.include_router(infer.router, dependencies=[Depends(no_labels)])
for kind in (*FORESEEN, Exception):  # of an unforeseen one, the log keeps the traceback
    app.add_exception_handler(kind, answer)
