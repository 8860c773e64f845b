from codelm.corpus.shards import Document
from codelm.records import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, SPECIAL_TOKENS
from codelm.tokenization import bpe
from codelm.training.offending import described, files_with, texts

A = "def area(radius):\n    return 3 * radius ** 2\n"
B = "class Point:\n    x = 1\n    größe = 'ü'\n"


def test_a_sequence_leads_to_its_files() -> None:
    tokenizer = bpe.plain(bpe.train([A, B] * 5, 300, 2).to_str())
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    head, middle, tail = (bpe.encode_plain(tokenizer, [part])[0] for part in (A[:8], A[8:12], A[12:]))
    end = ids["<|endoftext|>"]
    sequence = [
        *[ids[FIM_PREFIX], *head, ids[FIM_SUFFIX], *tail, ids[FIM_MIDDLE], *middle, end],
        *[*bpe.encode_plain(tokenizer, [B[5:]])[0], end, ids["<fim_pad>"], ids["<fim_pad>"]],
    ]
    wanted = list(texts(tokenizer, sequence, set(ids.values()), end))
    assert wanted == [A[12:], B[5:]]
    documents = [
        Document("1", "1", "nothing", "r", "c.py"),
        Document("2", "2", B, "r", "b.py"),
        Document("3", "3", A, None, "a.py"),
        Document("4", "4", A, None, "copy.py"),
    ]
    assert files_with(wanted, documents) == ["a.py", "r/b.py"]


def test_many_files_are_counted() -> None:
    line = described([3, 5], [f"{n}.py" for n in range(10)])
    assert line.startswith("the batch is sequence 3, 5 of packed/train, with 0.py, 1.py")
    assert line.endswith("7.py and 2 more")
