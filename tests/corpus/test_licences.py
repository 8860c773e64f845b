"""Licences of repositories: names, metadata, texts; and those of the packages that are installed here."""

from email.parser import HeaderParser
from pathlib import Path
from sysconfig import get_paths

import pyarrow as pa
import pytest

from codelm.corpus import spdx
from codelm.corpus.licences import Declaration, Licences, assigned, declared, is_evidence, refusal

SITE_PACKAGES = Path(get_paths()["purelib"])
ISC = (
    "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby "
    "granted, provided that the above copyright notice and this permission notice appear in all copies.\n\n"
    'THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING '
    "ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, "
    "DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, "
    "WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE "
    "USE OR PERFORMANCE OF THIS SOFTWARE.\n"
)


EVIDENCE = """LICENSE a/LICENCE.txt COPYING LICENSE-MIT LICENSE.APACHE MIT-LICENSE.md UNLICENSE LICENSES/MIT.txt
pyproject.toml a/setup.py PKG-INFO x.dist-info/METADATA package.json
Cargo.toml composer.json pom.xml a.gemspec setup.cfg
"""


@pytest.mark.parametrize("path", EVIDENCE.split())
def test_evidence_by_name(path: str) -> None:
    assert is_evidence(path)


@pytest.mark.parametrize(
    "path",
    ["license.py", "src/License.java", "LICENSES/x.py", "licensing.txt", "package.json5", "NOTICE", "METADATA.md"],
)
def test_other_files_are_no_evidence(path: str) -> None:
    assert not is_evidence(path)


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("The MIT License (MIT)", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache License v2.0", "Apache-2.0"),
        ("BSD License", "BSD-3-Clause"),
        ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
        ("GNU Library or Lesser General Public License (LGPL)", "LGPL-2.0-or-later"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("ISC License (ISCL)", "ISC"),
        ("gpl-2.0+", "GPL-2.0-or-later"),
        ("The Unlicense (Unlicense)", "Unlicense"),
        ("UNLICENSED", "LicenseRef-scancode-proprietary-license"),
        ("see the file", None),
        ("", None),
    ],
)
def test_names_of_licences(name: str, expression: str | None) -> None:
    assert spdx.named(name) == expression


@pytest.mark.parametrize(
    ("expression", "permissive"),
    [
        ("MIT", True),
        ("GPL-2.0-only", False),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-2.0-only AND MIT", False),
        ("MIT AND (MPL-2.0 OR BSD-3-Clause)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("CC0-1.0", True),
        ("CC-BY-SA-4.0", False),
        (spdx.UNKNOWN, False),
        ("LicenseRef-of-mine", False),
        ("not one", False),
        (None, False),
    ],
)
def test_permissive(expression: str | None, permissive: bool) -> None:
    assert spdx.is_permissive(expression) == permissive
    reasons = {True: None, False: "no_licence" if expression is None else "not_permissive"}
    assert refusal(expression) == reasons[permissive]


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("# SPDX-License-Identifier: mit\nx = 1\n", "MIT"),
        ("/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */\n", "GPL-2.0-only OR BSD-2-Clause"),
        ("<!-- SPDX-License-Identifier: ISC -->", "ISC"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: ISC\n", "MIT AND ISC"),
        ("# SPDX-License-Identifier: %s\n", None),
        (" " * spdx.HEADER_CHARACTERS + "SPDX-License-Identifier: MIT", None),
        ("x = 1", None),
    ],
)
def test_headers(text: str, licence: str | None) -> None:
    assert spdx.header(text) == licence


@pytest.mark.parametrize(
    ("path", "text", "licence"),
    [
        ("pyproject.toml", '[project]\nlicense = "MIT"\n', "MIT"),
        ("pyproject.toml", '[project]\nlicense = {text = "BSD"}\n', "BSD-3-Clause"),
        (
            "pyproject.toml",
            '[project]\nlicense = {file = "L"}\nclassifiers = ["License :: OSI Approved :: MIT License"]',
            "MIT",
        ),
        ("pyproject.toml", '[tool.poetry]\nlicense = "Apache-2.0"\n', "Apache-2.0"),
        ("pyproject.toml", "[project\n", None),
        ("setup.cfg", "[metadata]\nlicense = ISC\n", "ISC"),
        (
            "setup.cfg",
            "[metadata]\nclassifiers =\n  License :: OSI Approved :: Apache Software License\n",
            "Apache-2.0",
        ),
        ("setup.py", "from setuptools import setup\nsetup(name='a', license='GPLv3')\n", "GPL-3.0-only"),
        ("setup.py", "setup(classifiers=['License :: OSI Approved :: BSD License'])", "BSD-3-Clause"),
        ("setup.py", "setup(license=", None),
        ("PKG-INFO", "Name: a\nLicense-Expression: MIT OR ISC\nLicense: GPL\n\nbody", "MIT OR ISC"),
        ("METADATA", f"Name: a\nLicense: {ISC.replace(chr(10), chr(10) + '        ')}\n", "ISC"),
        ("package.json", '{"license": "MIT"}', "MIT"),
        ("package.json", '{"license": {"type": "ISC"}}', "ISC"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}', "MIT OR GPL-2.0-only"),
        ("package.json", "[]", None),
        ("package.json", '{"name": "a"}', None),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("composer.json", '{"license": ["LGPL-2.1-only", "GPL-3.0-or-later"]}', "LGPL-2.1-only OR GPL-3.0-or-later"),
        ("pom.xml", "<licenses><license><name>Apache License 2.0</name></license></licenses>", "Apache-2.0"),
        ("pom.xml", "<project/>", None),
        ("a.gemspec", "spec.license = 'MIT'", "MIT"),
        ("a.gemspec", 's.licenses = ["MIT", "Ruby"]', "MIT OR Ruby"),
        ("LICENSE", ISC, "ISC"),
        ("LICENSE", f"My project\n\n{ISC}\n\nAnd thanks to all.\n", "ISC"),
        ("LICENSE", "Apache-2.0\n", "Apache-2.0"),
        ("LICENSE", "All yours.", spdx.UNKNOWN),
    ],
)
def test_what_a_file_declares(path: str, text: str, licence: str | None) -> None:
    found = declared(path, text)
    assert (found.expression if found else None) == licence


def test_a_record_tells_which_packages_a_wheel_has() -> None:
    def wheel(name: str, licence: str, *files: str) -> list[Declaration]:
        record = "".join(f"{file},sha256=x,1\n" for file in files) + f"../../bin/{name}.py,,\n"
        found = declared(f"lib/{name}-1.0.dist-info/RECORD", record)
        assert found is not None
        heard = Declaration.heard(found.path, found.said)
        return [heard, Declaration(f"lib/{name}-1.0.dist-info/licenses/COPYING", licence, "text")]

    learn = wheel("scikit_learn", "BSD-3-Clause", "sklearn/a.py", "sklearn/deep/er/est/b.py", "data/x.csv")
    cloud = wheel("cloud_storage", "Apache-2.0", "google/__init__.py", "google/storage/a.py")
    other = wheel("cloud_auth", "MIT", "google/auth/a.py", "google/b.py")
    licences = Licences(("r", item) for item in (*learn, *cloud, *other))
    assert licences.of("r", "lib/sklearn/deep/er/est/b.py") == (
        "BSD-3-Clause",
        "lib/scikit_learn-1.0.dist-info/licenses/COPYING",
    )
    assert licences.of("r", "lib/google/storage/a.py")[0] == "Apache-2.0"
    assert licences.of("r", "lib/google/auth/a.py")[0] == "MIT"
    assert licences.of("r", "lib/google/b.py") == licences.of("r", "lib/data/x.csv") == (None, None)
    assert is_evidence("lib/scikit_learn-1.0.dist-info/RECORD")
    assert not is_evidence("lib/RECORD")
    assert declared("a.dist-info/RECORD", "six.py,,\n") is None


def test_the_nearest_evidence_counts() -> None:
    licences = Licences(
        [
            ("r", Declaration("LICENSE", "MIT", "text")),
            ("r", Declaration("vendor/x/COPYING", "GPL-2.0-only", "text")),
            ("s", Declaration("a/LICENSES/ISC.txt", "ISC", "text")),
            ("s", Declaration("sphinx_y-1.0.dist-info/METADATA", "BSD-2-Clause", "metadata")),
        ]
    )
    assert licences.of("r", "a/b/c.py") == ("MIT", "LICENSE")
    assert licences.of("r", "vendor/x/src/c.c") == ("GPL-2.0-only", "vendor/x/COPYING")
    assert licences.of("r", "vendor/y.py") == ("MIT", "LICENSE")
    assert licences.of("s", "a/x.py") == ("ISC", "a/LICENSES/ISC.txt")
    assert licences.of("s", "sphinx_y/x.py") == ("BSD-2-Clause", "sphinx_y-1.0.dist-info/METADATA")
    assert licences.of("s", "x.py") == licences.of("t", "x.py") == (None, None)


@pytest.mark.parametrize(
    ("texts", "metadata", "licence"),
    [
        (["MIT"], [], "MIT"),
        (["MIT", "Apache-2.0"], [], "MIT AND Apache-2.0"),
        (["MIT", "Apache-2.0"], ["MIT OR Apache-2.0"], "MIT OR Apache-2.0"),
        (["GPL-2.0-only"], ["MIT OR GPL-2.0-only"], "MIT OR GPL-2.0-only"),
        (["GPL-2.0-only"], ["MIT OR Apache-2.0"], "GPL-2.0-only AND (Apache-2.0 OR MIT)"),
        (["GPL-2.0-only"], ["ISC"], "GPL-2.0-only AND ISC"),
        ([], ["ISC"], "ISC"),
        ([spdx.UNKNOWN, "MIT"], [], "MIT"),
        ([spdx.UNKNOWN], [], spdx.UNKNOWN),
    ],
)
def test_evidence_of_one_directory_counts_together(texts: list[str], metadata: list[str], licence: str) -> None:
    found = [Declaration(f"LICENSE.{n}", text, "text") for n, text in enumerate(texts)]
    found += [Declaration(f"{n}.gemspec", text, "metadata") for n, text in enumerate(metadata)]
    assert Licences(("", item) for item in reversed(found)).of("", "a.py")[0] == licence


def test_texts_of_installed_packages_are_those_that_their_metadata_name() -> None:
    """Against `License-Expression`, which authors wrote, where it is one licence: its text is found."""
    right, wrong = 0, []
    for info in sorted(SITE_PACKAGES.glob("[a-f]*.dist-info")):
        told = HeaderParser().parsestr((info / "METADATA").read_text(errors="replace")).get("License-Expression", "")
        files = [path for path in info.rglob("*") if path.is_file() and path.name != "METADATA"]
        own = [path for path in files if path.parent == info or path.parent == info / "licenses"]
        texts = [declared(path.name, path.read_text(errors="replace")) for path in own if is_evidence(path.name)]
        if len(spdx.keys(told) if told else ()) != 1 or not texts:
            continue
        found = frozenset[str]().union(*(spdx.keys(text.expression) for text in texts if text))
        if spdx.keys(told) <= found:
            right += 1
        else:
            wrong.append((info.name, told, sorted(found)))
    print(f"{right} right, wrong: {wrong}")
    assert right >= 15
    assert right / (right + len(wrong)) >= 0.95


def table(rows: list[tuple[str, str | None, str, str | None, str | None, str | None]]) -> pa.Table:
    """Annotations: source, repo, path, licence, what it declares, reason."""
    names = ("source", "repo", "path", "licence", "declares", "reason")
    columns = {
        name: pa.array(list(values), pa.large_string())
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    told = ["header" if row[3] else None for row in rows]
    return pa.table(
        {**columns, "attribution": pa.array(told, pa.large_string()), "witness": pa.nulls(len(rows), pa.large_string())}
    )


ROWS: list[tuple[str, str | None, str, str | None, str | None, str | None]] = [
    ("s", "me/it", "LICENSE", None, "text MIT", "evidence"),
    ("s", "me/it", "a.py", None, None, None),
    ("s", "me/it", "b/c.py", "GPL-2.0-only", None, None),
    ("s", "me/it", "lib/setup.py", None, "metadata LGPL-3.0-only", None),
    ("s", "me/it", "lib/x.py", None, None, "long_line"),
    ("s", "you/it", "a.py", None, None, None),
    ("t", None, "a.py", None, None, None),
    ("t", None, "COPYING", None, "text ISC OR GPL-2.0-only", None),
]


def test_every_file_gets_the_licence_of_the_nearest_evidence() -> None:
    found = assigned(table(ROWS), permissive=False)
    assert "declares" not in found.column_names
    assert found.select(["path", "licence", "attribution", "reason"]).to_pylist() == [
        {"path": "a.py", "licence": "MIT", "attribution": "LICENSE", "reason": None},
        {"path": "b/c.py", "licence": "GPL-2.0-only", "attribution": "header", "reason": None},
        {"path": "lib/setup.py", "licence": "LGPL-3.0-only", "attribution": "lib/setup.py", "reason": None},
        {"path": "lib/x.py", "licence": "LGPL-3.0-only", "attribution": "lib/setup.py", "reason": "long_line"},
        {"path": "a.py", "licence": None, "attribution": None, "reason": None},
        {"path": "a.py", "licence": "ISC OR GPL-2.0-only", "attribution": "COPYING", "reason": None},
        {"path": "COPYING", "licence": "ISC OR GPL-2.0-only", "attribution": "COPYING", "reason": None},
    ]


def test_only_permissive_licences_stay_where_asked_for() -> None:
    found = assigned(table(ROWS), permissive=True)
    assert list(zip(found["reason"].to_pylist(), found["witness"].to_pylist(), strict=True)) == [
        (None, None),
        ("not_permissive", "GPL-2.0-only"),
        ("not_permissive", "LGPL-3.0-only"),
        ("long_line", None),
        ("no_licence", None),
        (None, None),
        (None, None),
    ]


def test_no_files_have_no_licences() -> None:
    assert len(assigned(table(ROWS).slice(0, 0), permissive=True)) == 0
