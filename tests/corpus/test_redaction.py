"""Redaction against 200 and more labelled cases, and the rules by which replacements are chosen."""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codelm.corpus.redaction import (
    DNS_SERVERS,
    EMAIL,
    IP_ADDRESS,
    KEY,
    PRIVATE_IPV4,
    PRIVATE_IPV6,
    findings,
    redact,
)
from codelm.corpus.secrets import entropy

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "pii_cases.jsonl").read_text().splitlines()
]
LEAST = {EMAIL: (0.95, 0.95), IP_ADDRESS: (0.95, 0.95), KEY: (0.95, 0.9)}
"""Precision and recall; bigcode-dataset's own on 400 labelled files: over 0.9, over 0.8, and 0.8 with 0.5."""


def found(text: str) -> list[tuple[str, str]]:
    return [(finding.kind, text[finding.start : finding.end]) for finding in findings(text)]


def judged() -> Iterator[tuple[dict[str, Any], Counter[tuple[str, str]], Counter[tuple[str, str]]]]:
    for case in CASES:
        yield case, Counter(map(tuple, case["find"])), Counter(found(case["text"]))


@pytest.mark.parametrize("kind", [EMAIL, IP_ADDRESS, KEY])
def test_precision_and_recall(kind: str) -> None:
    right = wanted = given = 0
    wrong = []
    for case, expected, actual in judged():
        own, other = ({key: n for key, n in side.items() if key[0] == kind} for side in (expected, actual))
        right += (Counter(own) & Counter(other)).total()
        wanted += sum(own.values())
        given += sum(other.values())
        if own != other:
            wrong.append((case["text"], own, other))
    precision, recall = right / given, right / wanted
    print(f"{kind}: precision {precision:.3f}, recall {recall:.3f} on {wanted} labelled; wrong: {wrong}")
    assert wanted >= 40
    assert (precision, recall) >= LEAST[kind]
    assert recall >= LEAST[kind][1]


def test_the_cases_are_many_and_half_of_them_clean() -> None:
    assert len(CASES) >= 200
    assert sum(not case["find"] for case in CASES) >= 100


def test_the_text_around_stays() -> None:
    text = "# jane.doe@gmail.com at 52.94.236.248\r\nx = 'é'\n"
    redacted = redact(0, text, "id")
    assert re.fullmatch(r"# [a-z]{5}@example\.com at \d+\.\d+\.\d+\.\d+\r\nx = 'é'\n", redacted.text)
    assert redacted.counts == {"email": 1, "ip_address": 1}
    assert redact(0, "x = 1\n", "id").text == "x = 1\n"


def test_a_replacement_is_a_function_of_seed_id_and_value() -> None:
    text = "a = 'jane@gmail.com'; b = 'joe@gmail.com'; c = 'jane@gmail.com'"
    first = redact(0, text, "id").text
    assert redact(0, text, "id").text == first
    one, two, three = re.findall(r"\w+@example\.com", first)
    assert one == three != two
    assert redact(1, text, "id").text != first != redact(0, text, "other").text


def test_addresses_stay_of_their_kind_and_are_private() -> None:
    text = "".join(f"host = '52.94.{n}.9'; host6 = '2a00:1450:4001:{n}::1'\n" for n in range(100))
    values = [value.strip("'") for value in re.findall("'[^']+'", redact(0, text, "id").text)]
    assert set(values[::2]) == set(PRIVATE_IPV4)
    assert set(values[1::2]) == set(PRIVATE_IPV6)
    assert all(ipaddress.ip_address(value).is_private for value in values)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_what_was_redacted_is_clean(case: dict[str, Any]) -> None:
    once = redact(0, case["text"], "id")
    assert all(kind == KEY for kind, _ in found(once.text))
    for finding in findings(case["text"]):
        assert case["text"][finding.start : finding.end] not in once.text


def test_name_servers_are_left_alone() -> None:
    assert found("".join(f"server = '{server}'\n" for server in sorted(DNS_SERVERS))) == []


def test_a_long_line_takes_no_long_time() -> None:
    """Patterns that back-track would never end on these."""
    for piece in ("a.", "1.", "ab:", "@a.", "'a", "key=", "-----BEGIN PRIVATE KEY-----", "eyJ"):
        text = piece * 20_000
        assert redact(0, text, "id").text == text


def test_entropy() -> None:
    assert entropy("aabb") == 1.0
    assert entropy("aaaa") == 0.0
