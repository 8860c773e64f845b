"""Requests that schemathesis makes of the OpenAPI schema: none is answered by a 500, errors have both forms."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from serve.api import make_api
from tests.serve.local import service_of

SCHEMA = schemathesis.pytest.from_fixture("schema")
EXAMPLES = 6


@pytest.fixture(scope="module")
def schema(tiny_model: Path):  # type: ignore[no-untyped-def]
    service = service_of(tiny_model, max_seconds=0.2)
    while service.current is None or service.current.engine is None:
        pass
    return schemathesis.openapi.from_asgi("/openapi.json", make_api(service))


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_it(case: schemathesis.Case) -> None:
    response = case.call(headers={"Connection": "close"})
    assert response.status_code < 500 or response.json()["error"]["code"] == "busy", response.text
    if response.status_code >= 400 and case.method != "HEAD":
        body = response.json()
        assert body["error"]["message"]
        assert body["detail"]
