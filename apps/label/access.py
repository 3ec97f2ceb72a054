"""Who may ask: only clients that address the server by its own name, and no page of another web site.

A page of any site can send requests to a server on loopback, also under a name of its own that resolves to 127.0.0.1
(DNS rebinding), by which its scripts may even read the responses.
"""

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from scripts.geometry.errors import one_line

NAMES = "GLADE_LABEL_NAMES"  # environment variable: names of the server besides those of loopback, a line each
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)\.?(:\d{1,5})?", re.IGNORECASE)


class OwnNamesOnly:
    """Middleware that refuses a foreign Host or Origin header with status 403, before anything is read or computed.

    Args:
        app: what is protected.
        names: names and addresses of the server besides those of loopback.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()):
        self.app = app
        self.names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; only HTTP is served."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        line = self.refusal(Headers(scope=scope), scope.get("scheme", "http"))
        if line is None and scope["type"] == "http":
            await self.app(scope, receive, send)
            return
        await JSONResponse({"detail": line or "only HTTP is served"}, 403)(scope, receive, send)

    def refusal(self, headers: Headers, scheme: str) -> str | None:
        """Return why a request with these headers is refused, or None."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            given = ", ".join(hosts) or "nothing"
            return one_line(f"the Host header names {given}: use 127.0.0.1 or localhost, or start with --name HOST")
        if any(origin.lower() != f"{scheme}://{hosts[0]}".lower() for origin in origins):
            return one_line(f"pages of {', '.join(origins)} may not use this server")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "pages of other web sites may not use this server"
        return None

    def _is_own(self, host: str) -> bool:
        found = HOST.fullmatch(host)
        name = found["name"].lower().rstrip(".") if found else ""
        if name == "localhost" or name in self.names:
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False
