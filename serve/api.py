"""The HTTP application: the dialects' routes, the page, health and figures. It knows nothing of Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware

from codelm import __version__
from serve.dialects import highlight, llama_cpp, mistral, openai, tabby, tgi
from serve.errors import install
from serve.guard import Guard, Watch
from serve.service import Service

PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Access:
    """Who may ask, and how much at a time.

    Attributes:
        keys: API keys; none asks for none.
        cors_origins: of pages in browsers that may ask, `*` for all.
        max_body_bytes: of a request.
        log: whether each answer is logged.
    """

    keys: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    max_body_bytes: int = 2 << 20
    log: bool = False


def make_api(service: Service, access: Access = Access()) -> FastAPI:
    """The application."""
    api = FastAPI(title="codelm", version=__version__, docs_url=None, redoc_url=None)
    install(api)
    for dialect in (openai, mistral, tabby, llama_cpp, tgi, highlight):
        api.include_router(dialect.router(service))

    @api.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the model is loaded; 503 until it is."""
        service.engine()
        return {"status": "ok", "model": service.model, "version": service.version, "active": service.admitted}

    @api.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    @api.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    api.mount("/page", StaticFiles(directory=PAGE), name="page")
    api.add_middleware(Guard, keys=access.keys, max_bytes=access.max_body_bytes)
    if access.cors_origins:
        api.add_middleware(
            CORSMiddleware, allow_origins=list(access.cors_origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    api.add_middleware(Watch, metrics=service.metrics, log=access.log)
    return api
