import sysconfig
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from codelm.config import Experiment
from codelm.corpus.split import is_held_out
from codelm.errors import UserError
from codelm.on_ray import corpus, tokenizer
from codelm.on_ray.stage import run_stage
from codelm.run_dir import RunDir
from codelm.tokenization import bpe

Make = Callable[..., Experiment]
STDLIB = Path(sysconfig.get_paths()["stdlib"])


def copy_files(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "source").mkdir()
    for path in STDLIB.glob(pattern):
        (tmp_path / "source" / path.name).write_bytes(path.read_bytes())


def test_trains_on_the_training_split_alone(ray_cluster: None, make_experiment: Make, tmp_path: Path) -> None:
    copy_files(tmp_path, "[a-c]*.py")
    experiment = make_experiment()
    run_dir = RunDir(experiment.run_dir)
    run_stage(corpus.STAGE, experiment, run_dir)
    manifest = run_stage(tokenizer.STAGE, experiment, run_dir)

    rows = [row for path in (tmp_path / "run/corpus/data").iterdir() for row in pq.read_table(path).to_pylist()]
    held_out = [row["content"] for row in rows if is_held_out(0, row["cluster"], 0.1)]
    train = [row["content"] for row in rows if not is_held_out(0, row["cluster"], 0.1)]
    expected = bpe.train(train, 512, 2)
    written = (tmp_path / "run/tokenizer/tokenizer.json").read_text()
    assert Tokenizer.from_str(written).to_str() == expected.to_str()
    tokens = sum(map(len, bpe.encode_plain(bpe.plain(written), held_out)))
    assert manifest.metrics == {
        "vocab_size": 512,
        "bytes_per_token": round(sum(len(text.encode()) for text in held_out) / tokens, 4),
        "held_out_files": len(held_out),
    }


def test_a_corpus_too_small_to_split_is_the_users_to_mend(
    ray_cluster: None, make_experiment: Make, tmp_path: Path
) -> None:
    copy_files(tmp_path, "base64.py")
    experiment = make_experiment(["corpus.filters.drop_probability=0"])
    run_dir = RunDir(experiment.run_dir)
    run_stage(corpus.STAGE, experiment, run_dir)
    with pytest.raises(UserError, match=r"^data.validation_fraction: 0.1 .* of 1 documents"):
        run_stage(tokenizer.STAGE, experiment, run_dir)
