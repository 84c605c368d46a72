"""Chromium without a window, told what to do over its DevTools protocol (a pipe, so that nothing else is needed)."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A page of `width` x `height` pixels; a context manager."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 1500):
        assert CHROMIUM is not None
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
        ]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        theirs, to_them = os.pipe()
        from_them, back = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        start = f'exec "$0" "$@" 3<&{theirs} 4>&{back}'
        self.process = subprocess.Popen(
            ["bash", "-c", start, CHROMIUM, *flags, "about:blank"],
            pass_fds=(theirs, back),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(back)
        self.commands, self.answers = os.fdopen(to_them, "wb", 0), os.fdopen(from_them, "rb", 0)
        self.pending, self.number, self.session = b"", 0, ""
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.session = ""
        self.ask("Browser.close")
        self.process.wait(30)
        self.commands.close()
        self.answers.close()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self.commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self.number:
                assert "result" in answer, answer
                return dict(answer["result"])

    def _next(self) -> bytes:
        while b"\0" not in self.pending:
            received = self.answers.read(1 << 20)
            assert received, "the browser has ended"
            self.pending += received
        message, _, self.pending = self.pending.partition(b"\0")
        return message

    def text(self) -> str:
        """All text that the page shows."""
        found = self.ask("Runtime.evaluate", expression="document.body.innerText")
        return str(found["result"].get("value", ""))

    def run(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script)["result"].get("value")

    def open(self, address: str, until: str, seconds: float = 120) -> None:
        """Open a page and wait until it shows some text."""
        self.ask("Page.navigate", url=address)
        wait_for(lambda: until in self.text(), seconds)

    def drop(self, file: Path) -> None:
        """Give a file to the page's first file input, as a person does who drops it."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
        return path


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """Return what `condition` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError("it did not come about in time")
