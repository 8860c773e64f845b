"""The toolchains of this machine: which languages can be run here, and what of it their programs have to see."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from codelm.errors import UserError
from codelm.sandbox.languages import OTHERS
from codelm.sandbox.patience import PYTHON

VERSION_SECONDS = 20.0
UTILITIES = (
    "awk basename bc cat comm cp cut date dc dirname echo env expr factor false find fold gawk grep head join ls mawk "
    "md5sum mkdir mktemp mv nl numfmt od paste printf rev rm sed seq sh sha256sum shuf sleep sort split stat tac tail "
    "tee test touch tr true tsort uniq wc xargs xxd yes"
)
"""What shell programs call; those that the machine has."""


@dataclass(frozen=True)
class Installed:
    """A toolchain of this machine, in plain values: it is handed to the referee.

    Attributes:
        paths: files and directories to show to its programs.
        commands: where each needed command is, by its name.
        environment: variables that they need.
    """

    language: str
    version: str
    paths: tuple[str, ...]
    commands: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def spare_bytes(self) -> int:
        """Memory of the runtime itself."""
        return OTHERS[self.language].spare_bytes if self.language != PYTHON else 0

    @property
    def spare_processes(self) -> int:
        """Threads of the runtime itself."""
        return OTHERS[self.language].spare_processes if self.language != PYTHON else 0


def _of_node(commands: dict[str, str]) -> Iterable[str]:
    return (os.path.realpath(commands["node"]),)


def _of_java(commands: dict[str, str]) -> Iterable[str]:
    home = Path(commands["javac"]).resolve().parents[1]
    yield str(home)
    # Debian keeps the configuration under /etc, and links to it.
    for directory in (home / "conf", home / "lib"):
        for entry in directory.rglob("*") if directory.is_dir() else ():
            if entry.is_symlink() and not entry.resolve().is_relative_to(home):
                yield str(entry.resolve())


def _java_environment(commands: dict[str, str]) -> dict[str, str]:
    """Without /proc, Java does not find its own directory."""
    home = Path(commands["javac"]).resolve().parents[1]
    return {"JAVA_HOME": str(home), "LD_LIBRARY_PATH": str(home / "lib")}


def _of_gcc(commands: dict[str, str]) -> Iterable[str]:
    yield from (os.path.realpath(commands["g++"]), "/usr/include", "/usr/libexec/gcc")
    for tool in ("as", "ld"):
        asked = [commands["g++"], f"-print-prog-name={tool}"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=VERSION_SECONDS, check=False).stdout
        yield shutil.which(said.strip()) or said.strip()


def _of_bash(commands: dict[str, str]) -> Iterable[str]:
    yield commands["bash"]
    if os.path.islink("/bin"):
        yield "/bin"
    yield from filter(None, map(shutil.which, UTILITIES.split()))


LANGUAGES = (PYTHON, *OTHERS)
SEES: dict[str, Callable[[dict[str, str]], Iterable[str]]] = {
    "javascript": _of_node,
    "java": _of_java,
    "cpp": _of_gcc,
    "shell": _of_bash,
}
"""What of the machine a language's programs have to read, from where its commands are."""


@cache
def installed(language: str) -> Installed:
    """The toolchain of a language.

    Raises:
        UserError: the language is unknown, or its toolchain is not on this machine.
    """
    if language == PYTHON:
        return Installed(PYTHON, "", ())
    if language not in OTHERS:
        raise UserError(f"language {language!r} is none of {', '.join(LANGUAGES)}")
    kind = OTHERS[language]
    places = {name: shutil.which(name) for name in kind.needs}
    commands = {name: place for name, place in places.items() if place}
    lacking = [name for name in kind.needs if name not in commands]
    if lacking:
        raise UserError(
            f"{language} programs need {', '.join(lacking)}, which this machine lacks; "
            f"install it (on Debian: apt-get install {kind.package}), or leave {language} out"
        )
    asked = [commands[kind.needs[0]], "--version"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=VERSION_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{language} programs need {asked[0]}, which does not run here: {error}") from error
    # The real path, so that a link such as Debian's /etc/alternatives need not be shown.
    commands = {name: os.path.realpath(place) if language != "shell" else place for name, place in commands.items()}
    paths = tuple(path for path in dict.fromkeys(SEES[language](commands)) if os.path.exists(path))
    return Installed(
        language,
        said.splitlines()[0].strip(),
        paths,
        commands,
        _java_environment(commands) if language == "java" else {},
    )


def found() -> dict[str, str]:
    """The version of each language's toolchain that this machine has, Python's included."""
    versions = {PYTHON: f"Python {platform.python_version()}"}
    for language in OTHERS:
        try:
            versions[language] = installed(language).version
        except UserError:
            continue
    return versions


def missing() -> dict[str, str]:
    """Why each of the other languages cannot run here."""
    reasons = {}
    for language in OTHERS:
        try:
            installed(language)
        except UserError as error:
            reasons[language] = str(error)
    return reasons


def language_of(path: Path) -> str:
    """The language of a file, by its suffix.

    Raises:
        UserError: it is none that is known.
    """
    if path.suffix in (".py", ""):
        return PYTHON
    for language, kind in OTHERS.items():
        if path.suffix in kind.suffixes:
            return language
    known = ", ".join((".py", *(suffix for kind in OTHERS.values() for suffix in kind.suffixes)))
    raise UserError(f"{str(path)!r}: suffix {path.suffix!r} is none of {known}")
