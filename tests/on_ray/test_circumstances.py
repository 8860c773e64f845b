import errno
import os

import pytest

from codelm.errors import UserError
from codelm.on_ray.circumstances import circumstance, told

OF_A_TASK = """ray::_encode() (pid=205, ip=10.0.0.7)
  File "codelm/run_dir.py", line 290, in local_copy
OSError: [Errno 28] No space left on device: '/home/me/.cache/codelm/ab12.partial/tokens.bin'"""
REFUSED = (
    "When reading information for key 'x/.work/a.json' in bucket 'runs': AWS Error UNKNOWN (HTTP status 503) during "
    "HeadObject operation: No response body."
)
UNREACHABLE = (
    "When reading information for key 'x' in bucket 'runs': AWS Error NETWORK_CONNECTION during HeadObject operation: "
    "curlCode: 7, Could not connect to server"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OF_A_TASK, "no space is left on a disk of 10.0.0.7 (/home/me/.cache/codelm/ab12.partial/tokens.bin); make"),
        (str(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), "no space is left on a disk; make room there, then"),
        (REFUSED, "the storage does not answer as it should: AWS Error UNKNOWN (HTTP status 503) during HeadObject"),
        (UNREACHABLE, "the storage does not answer as it should: AWS Error NETWORK_CONNECTION"),
    ],
)
def test_one_sentence_with_the_next_step(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught, told("pack"):
        raise RuntimeError(text)
    assert str(caught.value).startswith(f"pack: {said}")
    assert str(caught.value).endswith("give the same command again: what is finished is kept")
    assert "\n" not in str(caught.value)


def test_other_errors_stay_as_they_are() -> None:
    assert circumstance("AWS Error NO_SUCH_KEY during GetObject operation") is None
    with pytest.raises(KeyError), told("pack"):
        raise KeyError("No file")
    with pytest.raises(UserError, match=r"says$"), told("pack"):
        raise UserError("No space left on device is what it says")
