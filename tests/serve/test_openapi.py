"""Requests that schemathesis makes of the OpenAPI schema: none is answered by a 500, errors have both forms."""

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from serve.api import make_api
from tests.serve.local import service_of

EXAMPLES = 4
"""Of each operation, half of them of requests that the schema forbids."""
OPERATIONS = 12
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


def test_no_request_breaks_it(tiny_model: Path) -> None:
    service = service_of(tiny_model, max_seconds=0.1)
    while service.current is None or service.current.engine is None:
        pass
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_api(service))
    statuses: list[int] = []
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        # What takes nothing cannot be asked wrongly.
        for mode in MODES if operation.method == "post" else MODES[:1]:

            @given(operation.as_strategy(generation_mode=mode))
            @settings(max_examples=EXAMPLES // 2, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            def check(case: schemathesis.Case) -> None:
                response = case.call()
                statuses.append(response.status_code)
                assert response.status_code < 500, (case.as_curl_command(), response.text)
                if response.status_code >= 400 and case.method != "HEAD":
                    assert response.json()["error"]["message"]
                    assert response.json()["detail"]

            check()
    assert len(operations) == OPERATIONS
    assert {200, 400} <= set(statuses)
