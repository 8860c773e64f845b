"""What stands before the routes: API keys, the size of bodies, the log of answers."""

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codelm.errors import UserError
from serve.errors import ApiError, respond
from serve.metrics import Metrics

LOG = logging.getLogger("ray.serve.codelm")
KEYS_VARIABLE = "CODELM_API_KEYS"
OPEN = ("/", "/health")
"""Paths that ask for no key: the page, whose script asks its user for one, and the load balancer's question."""
OPEN_BELOW = "/page/"


def read_keys(path: str | None) -> tuple[str, ...]:
    """The API keys: of a file, one a line, `#` begins a comment; and of CODELM_API_KEYS, separated by commas.

    Raises:
        UserError: the file cannot be read, or there is no key in it.
    """
    keys = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",")]
    if path is not None:
        try:
            lines = [line.partition("#")[0].strip() for line in Path(path).read_text().splitlines()]
        except OSError as error:
            raise UserError(f"serving.api_keys_file: cannot read {path}: {error.strerror}") from error
        if not any(lines):
            raise UserError(f"serving.api_keys_file: there is no key in {path}; put one on each line")
        keys += lines
    return tuple(dict.fromkeys(key for key in keys if key))


class Guard:
    """Lets requests through that have a key and are not too long.

    Args:
        app: what they are let through to.
        keys: one of which a request has to name; none lets everybody through.
        max_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        error = self._refusal(scope, headers)
        if error is not None:
            more = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            await respond(error, more)(scope, receive, send)
            return
        read = 0

        async def counting() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        await self._app(scope, counting, send)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> ApiError | None:
        path = scope["path"]
        is_open = path in OPEN or path.startswith(OPEN_BELOW) or scope["method"] == "OPTIONS"
        if self._digests and not is_open and not self._has_key(headers):
            message = "no API key, or a wrong one; send the header `Authorization: Bearer KEY`"
            return ApiError(401, message, code="invalid_api_key")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            return ApiError(413, self._too_large(), code="too_large")
        return None

    def _too_large(self) -> str:
        return f"the body has more than {self._max_bytes} bytes; send less"

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        kind, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = _digest(bearer.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b""))
        # All are compared, each in constant time, so that the time tells nothing.
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Watch:
    """Counts and logs answers: method, path, status and time, and nothing of what was sent."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: bool) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499  # as nginx counts those whose client leaves before an answer

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - begun
            route = scope.get("route")
            path = getattr(route, "path", None) or ("other" if status in (404, 405) else scope["path"])
            self._metrics.answered(path if status not in (401, 404, 413) else "refused", status, seconds)
            if self._log:
                LOG.info("%s %s %d %.0f ms", scope["method"], scope["path"], status, seconds * 1000)
