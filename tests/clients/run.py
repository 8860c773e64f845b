"""`make clients`: clients of others, unmodified, against the live server with a tiny model.

python -m tests.clients.run PYTHON_OF_THE_CLIENTS
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.inference.tiny import make_tiny_model
from tests.serve.local import service_of, serving

HERE = Path(__file__).parent


def main(python: str) -> None:
    """Run each; the first that fails ends it."""
    with tempfile.TemporaryDirectory() as scratch:
        model = make_tiny_model(Path(scratch) / "model")
        PreTrainedTokenizerFast(
            tokenizer_file=str(model / "tokenizer.json"), eos_token="<|endoftext|>"
        ).save_pretrained(model)
        with serving(service_of(model)) as url:
            environment = {**os.environ, "CODELM_SERVER": url, "CODELM_MODEL": str(model), "HF_HUB_OFFLINE": "1"}
            body = json.dumps({"prompt": "x", "max_tokens": 4})
            commands = (
                ["curl", "-sSf", f"{url}/v1/completions", "-H", "Content-Type: application/json", "-d", body],
                ["node", "openai.mjs"],
                ["node", "continue.mjs"],
                [python, "in_python.py"],
            )
            for command in commands:
                subprocess.run(command, cwd=HERE, env=environment, check=True)
                print(flush=True)


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()))
