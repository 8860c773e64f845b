"""Errors as OpenAI's clients read them (`error`), and as FastAPI's do (`detail`), in one body."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

RETRY_AFTER_SECONDS = 1


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


def install(api: FastAPI) -> None:
    """Make every error of an application one of these bodies."""

    async def of_ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return _response(error)

    async def of_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        # ("body", "stop", "list[str]"): the name of the parameter is what follows "body".
        names = [str(part) for part in first["loc"][1:2] if first["type"] != "json_invalid"]
        return _response(ApiError(400, f"{': '.join([*names, first['msg']])}", next(iter(names), None)))

    async def of_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _response(ApiError(error.status_code, error.detail), error.headers)

    async def of_bugs(_: Request, error: Exception) -> JSONResponse:
        return _response(ApiError(500, f"internal error: {type(error).__name__}; the server's log has more"))

    api.add_exception_handler(ApiError, of_ours)
    api.add_exception_handler(RequestValidationError, of_validation)
    api.add_exception_handler(HTTPException, of_http)
    api.add_exception_handler(Exception, of_bugs)


def _response(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    more = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status == 503 else {}
    return JSONResponse(error.body(), error.status, headers={**(headers or {}), **more})
