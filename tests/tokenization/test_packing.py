import io
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from codelm.corpus.hashing import order_key
from codelm.corpus.shards import Document
from codelm.errors import UserError
from codelm.tokenization.bpe import encode_plain, plain, train
from codelm.tokenization.packing import (
    PackedInfo,
    PackedWriter,
    Run,
    by_key_range,
    encode,
    in_order,
    info_text,
    read_info,
    token_dtype,
)

EOS = 0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return plain(train(["for x in range(10):\n    print(x)\n"] * 3, 300, 2).to_str())


def documents(count: int) -> list[Document]:
    return [Document(f"{number:032x}", f"{number:032x}", "x = é\n" * (number % 7)) for number in range(count)]


def run_of(lengths: list[int]) -> Run:
    sizes = np.array(lengths, np.int64)
    tokens = np.arange(sizes.sum(), dtype=np.uint16) % 50
    return Run(np.arange(len(lengths), dtype=np.uint64), sizes, sizes * 3, tokens)


def write(runs: list[Run], sequence_length: int) -> tuple[np.ndarray, PackedInfo]:
    out = io.BytesIO()
    writer = PackedWriter(out, sequence_length, 50, EOS)
    for run in runs:
        writer.write(run)
    return np.frombuffer(out.getvalue(), "<u2"), writer.finish("train")


def test_end_of_text_follows_each_document(tokenizer: Tokenizer) -> None:
    run = encode(documents(100), tokenizer, EOS, seed=0)
    ends = np.cumsum(run.lengths) - 1
    assert (run.tokens[ends] == EOS).all()
    assert (run.tokens == EOS).sum() == 100
    expected = encode_plain(tokenizer, [document.content for document in documents(100)])
    assert run.tokens.tolist() == [token for ids in expected for token in (*ids, EOS)]
    assert run.text_bytes.tolist() == [len(document.content.encode()) for document in documents(100)]


def test_a_literal_end_of_text_ends_nothing(tokenizer: Tokenizer) -> None:
    run = encode([Document("a", "a", "x = '<|endoftext|>'\n")], tokenizer, EOS, seed=0)
    assert (run.tokens == EOS).sum() == 1
    assert tokenizer.decode(run.tokens[:-1].tolist()) == "x = '<|endoftext|>'\n"


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("runs", [1, 3])
def test_the_order_is_that_of_the_keys_whatever_the_parts(tokenizer: Tokenizer, parts: int, runs: int) -> None:
    everything = documents(40)
    encoded = [encode(everything[start::runs], tokenizer, EOS, seed=5) for start in range(runs)]
    dealt = [by_key_range(run, parts) for run in encoded]
    stream = np.concatenate([in_order([pieces[part] for pieces in dealt]).tokens for part in range(parts)])
    in_key_order = sorted(everything, key=lambda document: order_key(5, "order", document.id))
    assert [document.id for document in in_key_order] != [document.id for document in everything]
    assert stream.tolist() == encode(in_key_order, tokenizer, EOS, seed=5).tokens.tolist()


@given(st.lists(st.lists(st.integers(1, 20), max_size=5), min_size=1, max_size=5), st.integers(1, 16))
def test_no_token_is_lost_but_the_counted_tail(lengths: list[list[int]], sequence_length: int) -> None:
    runs = [run_of(each) for each in lengths]
    stream = np.concatenate([run.tokens for run in runs])
    if len(stream) < sequence_length:
        with pytest.raises(UserError, match=f"the train split has {len(stream)} tokens"):
            write(runs, sequence_length)
        return
    tokens, info = write(runs, sequence_length)
    assert len(tokens) == info.tokens == info.sequences * sequence_length
    assert tokens.tolist() == stream[: len(tokens)].tolist()
    assert info.dropped_tail_tokens == len(stream) - len(tokens) < sequence_length
    assert info.documents == sum(map(len, lengths))
    assert info.bytes == 3 * sum(map(sum, lengths))


def test_unigram_entropy_is_that_of_the_written_tokens() -> None:
    tokens, info = write([run_of([60, 17])], 8)
    counts = Counter(tokens.tolist())
    expected = -sum(count / len(tokens) * math.log(count / len(tokens)) for count in counts.values())
    assert info.unigram_entropy == pytest.approx(expected, abs=1e-6)


def test_one_token_over_and_over_has_no_entropy() -> None:
    run = Run(np.array([1], np.uint64), np.array([16]), np.array([1]), np.zeros(16, np.uint16))
    _, info = write([run], 8)
    assert str(info.unigram_entropy) == "0.0"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_the_type_holds_the_vocabulary(vocab_size: int, dtype: str) -> None:
    assert token_dtype(vocab_size).name == dtype
    assert token_dtype(vocab_size).str.startswith("<")
    assert np.array([vocab_size - 1]).astype(token_dtype(vocab_size))[0] == vocab_size - 1


def test_info_comes_back(tmp_path: Path) -> None:
    _, info = write([run_of([60])], 8)
    (tmp_path / "info.json").write_text(info_text(info))
    assert read_info(tmp_path) == info
