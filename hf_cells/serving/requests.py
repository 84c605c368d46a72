"""From an HTTP request to the bytes of an image and its parameters, within limits; and how a request is refused."""

import asyncio
import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ..models.handler import decode_inputs

_LINGER_SECONDS = 10.0
_READ = "hf_cells.body_was_read"  # in the scope of a request


class Refusal(Exception):
    """A request that is not answered: its HTTP status, and one line that says why."""

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class RefusalResponse(JSONResponse):
    """`{"error": …}`, said at once; then what is still being sent is read and thrown away for a while.

    A server that closes a connection with unread data in it resets it, and the sender never sees why. A sender that
    waits for a go-ahead (`Expect: 100-continue`) has sent nothing, and is not asked to.
    """

    def __init__(self, refusal: Refusal):
        headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
        super().__init__({"error": refusal.message}, refusal.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then linger."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        waits = dict(scope["headers"]).get(b"expect", b"").lower() == b"100-continue"
        if _READ not in scope and not waits:
            await _throw_away(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _throw_away(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """Read the body, at most so many bytes of it.

    Raises:
        Refusal: 413 when more are announced or come; 408 when they take too long.
    """
    too_large = Refusal(413, f"the body is over the limit of {max_bytes / 1e6:g} MB (--max_body_mb)")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    body = bytearray()
    begun = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            async for chunk in request.stream():
                if len(body) + len(chunk) > max_bytes:
                    raise too_large
                body += chunk
    except TimeoutError:
        waited = time.monotonic() - begun
        raise Refusal(408, f"the body did not arrive within {waited:.0f} s (--timeout)") from None
    request.scope[_READ] = True
    return bytes(body)


def parse(body: bytes, content_type: str, query: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
    """Return the image file and the parameters of a request.

    Args:
        body: The file itself (parameters then stand in the address, as in `?top_k=3`), or JSON
            `{"inputs": base64, "parameters": {…}}`.
        content_type: JSON, an image type, or anything: many programs name a wrong type or none.
        query: What stands in the address.

    Raises:
        Refusal: 400 for broken JSON, 415 for a form, 422 for other fields than these, or an empty body.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise Refusal(415, "forms are not read; send the file itself: curl --data-binary @cell.png …")
    if not body:
        raise Refusal(422, "the body is empty; send an image file, or JSON with its base64 in inputs")
    # No image file begins with a brace.
    if not kind.endswith("json") and (kind.startswith("image/") or body.lstrip()[:1] != b"{"):
        return body, dict(query)
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {' '.join(str(error).split())[:150]}") from None
    if not isinstance(message, dict) or "inputs" not in message:
        raise Refusal(422, 'JSON must be {"inputs": "<image file in base64>", "parameters": {…}}')
    # "options" come from older clients of the Hub.
    if unknown := set(message) - {"inputs", "parameters", "options"}:
        raise Refusal(422, f"unknown field {min(unknown)[:60]!r}; known: inputs, parameters")
    parameters = message.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refusal(422, 'parameters is not an object, such as {"top_k": 3}')
    try:
        return bytes(decode_inputs(message["inputs"])), {**query, **parameters}
    except ValueError as error:
        raise Refusal(422, str(error)) from None
