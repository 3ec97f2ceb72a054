"""A headless Chromium for tests, which opens pages, presses keys and takes screenshots through DevTools."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import websocket

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-port=0",
]
NO_GPU = ["--disable-gpu"]
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL 2 computed by the processor
KEYS = {  # keys without a character: name -> Windows key code
    "Enter": 13,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
}
TIMEOUT_S = 180  # a loaded machine is slow; nothing waits longer than it must


class Chromium:
    """One browser with one page; a context manager.

    Args:
        folder: for the browser profile and the downloads.
        width: of the window, CSS pixels.
        height: of the window, CSS pixels.
        flags: further ones, such as WEBGL.
    """

    def __init__(self, folder: Path, width: int = 1280, height: int = 800, flags: list[str] = NO_GPU):
        self.downloads, self.requests = folder / "downloads", []
        self.downloads.mkdir(parents=True, exist_ok=True)
        self._numbers, self._flags = itertools.count(1), [*FLAGS, *flags, f"--window-size={width},{height}"]
        self._profile = folder / "profile"

    def __enter__(self) -> "Chromium":
        command = [shutil.which("chromium"), *self._flags, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            file = self._profile / "DevToolsActivePort"
            until(lambda: file.is_file() and len(file.read_text().split()) == 2)
            address = f"http://127.0.0.1:{file.read_text().split()[0]}/json"
            pages = until(lambda: [t for t in json.load(urllib.request.urlopen(address)) if t["type"] == "page"])
            self._socket = websocket.create_connection(
                pages[0]["webSocketDebuggerUrl"], timeout=TIMEOUT_S, suppress_origin=True
            )
            self.call("Page.enable")
            self.call("Network.enable")
            self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.terminate()
        self._process.wait(TIMEOUT_S)

    def call(self, method: str, **parameters) -> dict:
        """Sends one command of the DevTools protocol; returns its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def open(self, page: Path) -> None:
        """Opens a file and waits until it is loaded."""
        self.call("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def reload(self) -> None:
        """Reloads the page."""
        self.js("window.isOld = true")
        self.call("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'")

    def js(self, expression: str):
        """Evaluates an expression in the page; returns its value."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = TIMEOUT_S):
        """Waits until an expression is true; returns its value."""
        return until(lambda: self._try(expression), expression, seconds)

    def _try(self, expression: str):
        try:
            return self.js(expression)
        except RuntimeError:  # the page is being replaced
            return None

    def key(self, name: str, shift: bool = False) -> None:
        """Presses a key: a character, or a name of KEYS."""
        printed = "\r" if name == "Enter" else name if len(name) == 1 else ""
        code = KEYS.get(name) or ord(name.upper())
        what = {"key": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if printed else "rawKeyDown", text=printed, **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def move(self, x: float, y: float) -> None:
        """Moves the mouse to a point of the page, CSS pixels, without a button."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, start: tuple[float, float], stop: tuple[float, float], steps: int = 4) -> None:
        """Drags with the left button from one point of the page to another, CSS pixels."""
        (x, y), (u, v) = start, stop
        for i in range(steps + 2):
            kind = "mousePressed" if i == 0 else "mouseReleased" if i == steps + 1 else "mouseMoved"
            share = min(i, steps) / steps
            at = {"x": x + (u - x) * share, "y": y + (v - y) * share}
            self.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)

    def touch(self, start: tuple[float, float], stop: tuple[float, float], steps: int = 4) -> None:
        """Drags one finger from one point of the page to another, CSS pixels; see `size`, mobile."""
        (x, y), (u, v) = start, stop
        for i in range(steps + 1):
            at = {"x": x + (u - x) * i / steps, "y": y + (v - y) * i / steps}
            kind = "touchMove" if i else "touchStart"
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[at])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def size(self, width: int, height: int, mobile: bool = False) -> None:
        """Sets the size of the page, CSS pixels."""
        given = {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **given)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def picture(self, path: Path) -> Path:
        """Writes a PNG of the visible part of the page; returns its path."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path


def until(condition, what: str = "the browser", seconds: float = TIMEOUT_S):
    """Waits until a condition holds; returns its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            value = condition()
        except OSError:
            value = None
        if value:
            return value
        time.sleep(0.03)
    raise TimeoutError(f"waited {seconds} s for {what}")


def require_chromium() -> None:
    """Skips the test if Chromium is not installed."""
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium on PATH (Debian: apt-get install chromium)")
