"""The editor extension's logic, in Node, against the live server."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXTENSION = Path(__file__).parents[2] / "serve" / "vscode"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_the_extension_asks_as_it_should(local_url: str) -> None:
    done = subprocess.run(
        ["node", "--test", "test/"],
        cwd=EXTENSION,
        env={**os.environ, "CODELM_SERVER": local_url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "# pass 6" in done.stdout
