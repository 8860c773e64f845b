"""Errors as OpenAI's clients read them (`error`), and as FastAPI's do (`detail`), in one body."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

RETRY_AFTER_SECONDS = 1
BODY_KINDS = ("openai", "tabby")
"""Tags of the bodies that share `/v1/completions`."""


class ApiError(Exception):
    """An answer other than success.

    Attributes:
        status: of HTTP.
        message: names the thing, its value and the next step.
        param: the parameter at fault.
        code: a word that programs can act on.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        where = ["body", self.param] if self.param else ["body"]
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code},
            "detail": [{"loc": where, "msg": self.message, "type": self.code or kind}],
        }


def unavailable(message: str, code: str) -> ApiError:
    """A 503, which says when to come back."""
    return ApiError(503, message, code=code)


def respond(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that tells an error."""
    more = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status in (429, 503) else {}
    return JSONResponse(error.body(), error.status, headers={**(headers or {}), **more})


def install(api: FastAPI) -> None:
    """Make every error of an application one of these bodies."""

    async def of_ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return respond(error)

    async def of_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        # ("body", "openai", "stop", "list[str]"): the parameter is what follows "body" and the kind of body, if any.
        loc = [part for part in first["loc"][1:] if part not in BODY_KINDS]
        names = [str(part) for part in loc[:1] if first["type"] != "json_invalid"]
        return respond(ApiError(400, f"{': '.join([*names, first['msg']])}", next(iter(names), None)))

    async def of_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return respond(ApiError(error.status_code, error.detail), error.headers)

    async def of_bugs(_: Request, error: Exception) -> JSONResponse:
        return respond(ApiError(500, f"internal error: {type(error).__name__}; the server's log has more"))

    api.add_exception_handler(ApiError, of_ours)
    api.add_exception_handler(RequestValidationError, of_validation)
    api.add_exception_handler(HTTPException, of_http)
    api.add_exception_handler(Exception, of_bugs)
