import ast
from pathlib import Path
from typing import get_args

import pytest
import yaml

import codelm.corpus
from codelm.config import Corpus, FilterName
from codelm.corpus.card import EXPLANATIONS, card

CORPUS = Corpus(sources=("stdlib",))


def ledger(files: int) -> dict[str, object]:
    dropped = {"empty": {"files": 2, "bytes": 0}, "long_line": {"files": 3, "bytes": 1234567}}
    return {
        "input": {"files": files + 5, "bytes": 9},
        "kept": {"files": files, "bytes": 8},
        "dropped": dropped,
        "redacted": {},
    }


@pytest.mark.parametrize(("files", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (5_000_000, "1M<n")])
def test_the_front_matter_is_what_the_hub_reads(files: int, category: str) -> None:
    front = yaml.safe_load(card(CORPUS, 0, ledger(files)).split("---\n")[1])
    assert front["size_categories"] == [category]
    assert front["configs"] == [{"config_name": "default", "data_files": "data/*.parquet"}]


def test_counts_by_reason_the_most_first() -> None:
    text = card(CORPUS, 0, ledger(10))
    assert "10 files (8 bytes) kept of 15 (9 bytes)" in text
    assert text.index("| `long_line` |") < text.index("| `empty` |")
    assert "| 3 | 1,234,567 |" in text


def test_what_was_redacted_is_counted() -> None:
    counted = {**ledger(10), "redacted": {"key": {"files": 2, "places": 3000}}}
    assert "Redacted in the kept files: key in 3,000 places of 2 files." in card(CORPUS, 0, counted)
    assert "Redacted" not in card(CORPUS, 0, ledger(10))


def test_it_says_how_to_make_it_again() -> None:
    block = card(CORPUS, 7, ledger(10)).split("```yaml\n")[1].split("```")[0]
    assert Corpus.model_validate(yaml.safe_load(block)["corpus"]) == CORPUS


def yielded(module: str) -> set[str]:
    root = Path(codelm.corpus.__file__).parent
    return {
        node.value.value
        for node in ast.walk(ast.parse((root / f"{module}.py").read_text()))
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Constant)
    }


def test_every_reason_has_an_explanation() -> None:
    heuristics = yielded("filters")
    assert len(heuristics) == 8
    heuristics |= yielded("stack_filters")
    assert heuristics == set(get_args(FilterName))
    from codelm.corpus import annotate, ledger, reading

    others = {reading.UNREADABLE, reading.TOO_LARGE, reading.EMPTY, reading.BINARY, reading.UNDECODABLE}
    others |= {annotate.OTHER_LANGUAGE, annotate.CONTAMINATED, ledger.EXACT_DUPLICATE, ledger.NEAR_DUPLICATE}
    assert heuristics | others == EXPLANATIONS.keys()
