"""MONAI Label's web application, with a clear answer for what it leaves to a bare "Internal Server Error"."""

import tempfile
from pathlib import Path

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.interfaces.exception import MONAILabelException

from scripts.data.reasons import one_line

from .glue import Answer, answer_for

__all__ = ["app"]

# Label lets every web page read its answers; a page open in the same browser must not read patients' images
app.user_middleware = [layer for layer in app.user_middleware if layer.cls is not CORSMiddleware]


@app.exception_handler(Answer)
@app.exception_handler(OSError)
async def answer(_: Request, error: Exception) -> JSONResponse:
    """Status and one line; an upload that a full disk cut short is removed."""
    if isinstance(error, OSError):
        for file in Path(tempfile.gettempdir()).iterdir():  # results lie in a folder of their own
            if file.is_file():
                file.unlink(missing_ok=True)
    told = answer_for(error)
    return JSONResponse({"detail": told.line}, told.status)


@app.exception_handler(ValueError)
@app.exception_handler(TypeError)
async def no_object(_: Request, error: Exception) -> JSONResponse:
    """Label has read the request's params before the app sees them."""
    return JSONResponse({"detail": one_line(f"params must be a JSON object ({error})")}, 400)


@app.exception_handler(MONAILabelException)
async def label_answer(_: Request, error: MONAILabelException) -> JSONResponse:
    """What Label itself complains of: a request that asks for what is not there."""
    return JSONResponse({"detail": str(error.msg)}, 400)
