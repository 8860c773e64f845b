import json
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from codelm.config import Experiment
from codelm.corpus.hashing import order_key
from codelm.corpus.split import is_held_out
from codelm.errors import UserError
from codelm.on_ray import corpus, pack, tokenizer
from codelm.on_ray.stage import run_stage
from codelm.run_dir import RunDir
from codelm.tokenization import bpe
from codelm.tokenization.packing import read_info

Make = Callable[..., Experiment]
STDLIB = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture
def prepared(ray_cluster: None, make_experiment: Make, tmp_path: Path) -> Experiment:
    """An experiment with corpus and tokenizer, one file of which contains the text of a special token."""
    (tmp_path / "source").mkdir()
    for path in STDLIB.glob("[a-c]*.py"):
        text = path.read_text(encoding="utf-8") + "\nEND = '<|endoftext|>'\n"
        (tmp_path / "source" / path.name).write_text(text)
    experiment = make_experiment()
    run_dir = RunDir(experiment.run_dir)
    run_stage(corpus.STAGE, experiment, run_dir)
    run_stage(tokenizer.STAGE, experiment, run_dir)
    return experiment


def test_both_splits_hold_their_documents_in_the_shuffled_order(prepared: Experiment, tmp_path: Path) -> None:
    manifest = run_stage(pack.STAGE, prepared, RunDir(prepared.run_dir))
    rows = [row for path in (tmp_path / "run/corpus/data").iterdir() for row in pq.read_table(path).to_pylist()]
    rows.sort(key=lambda row: order_key(0, "order", row["id"]))
    encoder = bpe.plain((tmp_path / "run/tokenizer/tokenizer.json").read_text())
    sides: dict[str, set[str]] = {}
    for split, held_out in (("train", False), ("valid", True)):
        documents = [row for row in rows if is_held_out(0, row["cluster"], 0.1) is held_out]
        sides[split] = {row["cluster"] for row in documents}
        texts = [row["content"] for row in documents]
        stream = [token for ids in bpe.encode_plain(encoder, texts) for token in (*ids, 0)]
        directory = tmp_path / "run/packed" / split
        info = read_info(directory)
        tokens = np.fromfile(directory / "tokens.bin", np.dtype(info.dtype).newbyteorder("<"))
        assert tokens.tolist() == stream[: info.sequences * 64]
        assert (info.sequence_length, info.dtype, info.vocab_size, info.eos_id) == (64, "uint16", 512, 0)
        assert info.tokens + info.dropped_tail_tokens == len(stream)
        assert info.documents == len(documents) >= (tokens == 0).sum() >= len(documents) - 1
        assert info.bytes == sum(len(text.encode()) for text in texts)
        assert manifest.metrics[split] == json.loads((directory / "info.json").read_text())
    assert not sides["train"] & sides["valid"]


def test_parts_change_not_a_byte(prepared: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = RunDir(prepared.run_dir)
    first = run_stage(pack.STAGE, prepared, run_dir)
    run_dir.withdraw("packed")
    monkeypatch.setattr(pack, "PART_BYTES", 50_000)
    assert run_stage(pack.STAGE, prepared, run_dir).files == first.files


def test_too_few_tokens_for_one_sequence_are_the_users_to_mend(prepared: Experiment) -> None:
    data = prepared.data.model_copy(update={"sequence_length": 10_000_000})
    with pytest.raises(UserError, match=r"data.sequence_length: the train split has [\d,]+ tokens, fewer than one"):
        run_stage(pack.STAGE, prepared.model_copy(update={"data": data}), RunDir(prepared.run_dir))
