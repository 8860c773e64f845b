import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from codelm.errors import UserError
from codelm.training.validation import validation_loss
from tests.inference.tiny import make_tiny_model
from tests.training.packed import write_packed

TEXTS = ["def add(a, b):\n    return a + b\n" * 5, "x = 'é'\n", "for value in values:\n    print(value)\n" * 9]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = make_tiny_model(tmp_path_factory.mktemp("model"), positions=64)
    file = str(directory / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=file, eos_token="<|endoftext|>").save_pretrained(directory)
    return str(directory)


def by_hand(model: str, length: int) -> tuple[float, float, int]:
    """Transformers' own losses, a sequence at a time: nats, bits a byte, predicted tokens."""
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    stream = [token for text in TEXTS for token in (*tokenizer(text)["input_ids"], 0)]
    nats = predicted = 0.0
    for start in range(0, len(stream), length):
        row = torch.tensor([stream[start : start + length]])
        if row.shape[1] > 1:
            nats += loaded(input_ids=row, labels=row).loss.item() * (row.shape[1] - 1)
            predicted += row.shape[1] - 1
    bits = nats / predicted * len(stream) / sum(len(text.encode()) for text in TEXTS) / math.log(2)
    return nats / predicted, bits, int(predicted)


@pytest.fixture(params=["parquet", "corpus", "jsonl", "directory"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "parquet":
        pq.write_table(pa.table({"content": TEXTS}), tmp_path / "a.parquet")
        yield tmp_path / "a.parquet"
    elif request.param == "corpus":
        (tmp_path / "data").mkdir()
        pq.write_table(pa.table({"content": TEXTS[:1]}), tmp_path / "data" / "part-00000.parquet")
        pq.write_table(pa.table({"content": TEXTS[1:]}), tmp_path / "data" / "part-00001.parquet")
        pq.write_table(pa.table({"content": ["dropped"]}), tmp_path / "dropped.parquet")
        yield tmp_path
    elif request.param == "jsonl":
        (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
        yield tmp_path / "a.jsonl"
    else:
        for number, text in enumerate(TEXTS):
            (tmp_path / f"{number}.py").write_text(text)
        yield tmp_path


def test_the_loss_is_that_of_transformers(model: str, data: Path) -> None:
    for length in (16, 64):
        found = validation_loss(model, data, batch_size=3, sequence_length=length)
        loss, bits, predicted = by_hand(model, length)
        assert found.loss == pytest.approx(loss, rel=1e-5)
        assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
        assert found.bits_per_byte == pytest.approx(bits, rel=1e-5)
        assert (found.tokens, found.documents, found.sequence_length) == (predicted, 3, length)


def test_isolated_documents_are_measured_as_if_each_stood_alone(model: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": TEXTS}), tmp_path / "a.parquet")
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    stream = [token for text in TEXTS for token in (*tokenizer(text)["input_ids"], 0)]
    nats = predicted = 0.0
    for start in range(0, len(stream), 64):
        pieces: list[list[int]] = [[]]
        for token in stream[start : start + 64]:
            pieces[-1].append(token)
            if token == 0:
                pieces.append([])
        for piece in (piece for piece in pieces if len(piece) > 1):
            row = torch.tensor([piece])
            nats += loaded(input_ids=row, labels=row).loss.item() * (len(piece) - 1)
            predicted += len(piece) - 1
    found = validation_loss(model, tmp_path / "a.parquet", batch_size=2, sequence_length=64, isolate=True)
    assert (found.loss, found.tokens) == (pytest.approx(nats / predicted, rel=1e-5), predicted)


def test_a_packed_split_is_measured_as_it_is(model: str, tmp_path: Path) -> None:
    from codelm.training.data import open_packed

    root = write_packed(tmp_path, vocab_size=len(AutoTokenizer.from_pretrained(model)), length=32, valid=5)
    found = validation_loss(model, root / "valid", batch_size=2)
    packed = open_packed(root / "valid")
    rows = torch.from_numpy(packed.tokens.astype("int64"))
    expected = AutoModelForCausalLM.from_pretrained(model)(input_ids=rows, labels=rows).loss.item()
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert (found.sequences, found.tokens) == (5, 5 * 31)
    assert validation_loss(model, root / "valid", batch_size=2, max_sequences=3).sequences == 3


def test_progress_is_told(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("codelm.console.LINE_EVERY_SECONDS", 0.0)
    root = write_packed(tmp_path, vocab_size=len(AutoTokenizer.from_pretrained(model)), length=32, valid=5)
    validation_loss(model, root / "valid", batch_size=2)
    (tmp_path / "a.py").write_text(TEXTS[2])
    validation_loss(model, tmp_path / "a.py", batch_size=1)
    told = capsys.readouterr().err
    assert "2 of 5 sequences" in told
    assert "1 sequences" in told


def test_one_file_is_one_document(model: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TEXTS[2])
    assert validation_loss(model, tmp_path / "a.py", 2).documents == 1


def test_what_does_not_fit_is_named(model: str, tmp_path: Path) -> None:
    root = write_packed(tmp_path, vocab_size=512, length=32)
    (tmp_path / "empty.py").write_text("")
    pq.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    for data, length, message in [
        (root / "valid", None, "was packed with a tokenizer of 512 entries, the model's has"),
        (root / "valid", 16, "is packed with 32"),
        (tmp_path / "nowhere", None, "there is no"),
        (tmp_path / "empty.py", None, "there is no text in it"),
        (tmp_path / "a.parquet", None, "has no column content or text, but number"),
        (tmp_path / "empty.py", 65, "65 is longer than the model's 64 positions"),
    ]:
        with pytest.raises(UserError, match=message):
            validation_loss(model, data, 2, length)
    with pytest.raises(UserError, match=r"--model: there is no directory"):
        validation_loss("./nowhere", tmp_path, 2)
