"""Languages other than Python: how a program is compiled, run and seen to have reached its end. Light: the referee
imports it.

One file is one program, compiled and run as in MultiPL-E, both inside the jail. MultiPL-E takes exit status 0 for a
pass, which `exit(0)` gives as well; here a program with its tests in it must also print a random token that is put
after its last statement. A program that reads its own file can still forge that: only `Cases` are out of its reach.
"""

import re
from typing import NamedTuple


class Language(NamedTuple):
    """How a language is compiled and run; `{file}`, `{name}` (the file without suffix) and `{memory_mb}` are filled in.

    Attributes:
        suffixes: of its files, the first for ours.
        needs: commands that have to be found; the first tells its version.
        compile: the compiler's command; empty if there is nothing to compile.
        run: the program's command.
        end: a statement that prints `{token}`.
        braces: how many closing braces at the end of a program that statement goes before.
        package: what to install on Debian.
        address_space: whether its memory can be limited by address space. The virtual machines of Java and
            JavaScript reserve more than they use: theirs is limited by data pages, the cgroup and their own heap limit.
        spare_bytes: memory of the runtime itself, on top of the program's.
        spare_processes: threads of the runtime itself.
        out_of_memory: what its messages hold when memory has run out.
        failure: what its messages hold when an assertion or an exception, not a fault, has ended it by a signal.
        syntax: what its messages hold when the program could not be parsed, where nothing compiles it beforehand.
    """

    suffixes: tuple[str, ...]
    needs: tuple[str, ...]
    compile: str
    run: str
    end: str
    braces: int
    package: str
    address_space: bool = True
    spare_bytes: int = 0
    spare_processes: int = 0
    out_of_memory: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    syntax: tuple[str, ...] = ()


OTHERS = {
    "javascript": Language(
        suffixes=(".js", ".cjs"),
        needs=("node",),
        compile="",
        run="node --max-old-space-size={memory_mb} {file}",
        end='process.stdout.write("{token}");',
        braces=0,
        package="nodejs",
        address_space=False,
        spare_bytes=512 << 20,
        spare_processes=16,
        out_of_memory=("JavaScript heap out of memory", "Array buffer allocation failed"),
        syntax=("at wrapSafe (node:internal",),
    ),
    "java": Language(
        suffixes=(".java",),
        needs=("javac", "java"),
        compile=(
            "javac -J-XX:TieredStopAtLevel=1 -J-XX:+UseSerialGC -J-Xmx512m -J-Xshare:auto -J-XX:-UsePerfData "
            "-encoding UTF-8 -proc:none -nowarn {file}"
        ),
        run=(
            "java -ea -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -XX:-UsePerfData -Xmx{memory_mb}m "
            "-cp . {name}"
        ),
        end='System.out.print("{token}"); System.out.flush();',
        braces=2,
        package="default-jdk-headless",
        address_space=False,
        spare_bytes=768 << 20,
        spare_processes=32,
        out_of_memory=("java.lang.OutOfMemoryError",),
    ),
    "cpp": Language(
        suffixes=(".cpp", ".cc", ".cxx"),
        needs=("g++",),
        compile="g++ -std=c++17 {file} -o program",
        run="./program",
        end='__builtin_printf("{token}");',
        braces=1,
        package="g++",
        out_of_memory=("std::bad_alloc",),
        failure=("Assertion `", "terminate called"),
    ),
    "shell": Language(
        suffixes=(".sh",),
        needs=("bash",),
        compile="",
        run="bash {file}",
        end="printf %s {token}",
        braces=0,
        package="bash",
        out_of_memory=("cannot allocate", "Cannot allocate memory"),
        syntax=("syntax error near", "syntax error: unexpected end"),
    ),
}


def file_name(language: str, source: str) -> str:
    """The name of a program's file: Java's is its class's with `main`."""
    suffix = OTHERS[language].suffixes[0]
    if language != "java":
        return f"main{suffix}"
    public = re.search(r"^\s*public\s+(?:(?:final|abstract)\s+)*class\s+(\w+)", source, re.MULTILINE)
    before_main = source.partition("static void main")[0]
    classes = re.findall(r"^\s*(?:public\s+)?(?:final\s+)?class\s+(\w+)", before_main, re.MULTILINE)
    name = public[1] if public else classes[-1] if classes else "Main"
    return f"{name}{suffix}"


def with_end(language: str, source: str, token: str) -> str:
    """The program with a statement at its end that prints a token; unchanged if it has no end to find."""
    kind = OTHERS[language]
    statement = kind.end.replace("{token}", token)
    place = len(source)
    for _ in range(kind.braces):
        place = source.rfind("}", 0, place)
        if place < 0:
            return source
    return f"{source[:place]}\n{statement}\n{source[place:]}"


def filled(command: str, commands: dict[str, str], *, file: str, memory_bytes: int) -> list[str]:
    """A command with its places filled in, and its first word as an absolute path."""
    values = {"{file}": file, "{name}": file.rpartition(".")[0], "{memory_mb}": str(memory_bytes >> 20)}
    words = []
    for word in command.split():
        for name, value in values.items():
            word = word.replace(name, value)
        words.append(word)
    return [commands.get(words[0], words[0]), *words[1:]]
