"""Log probabilities in the form of OpenAI's completions."""

from collections.abc import Sequence

from codelm.inference.codec import Codec, TextStream
from codelm.inference.engine import TokenScore
from serve.schema import Logprobs


class LogprobsWriter:
    """Writes one choice's, piece by piece; offsets count characters of its text from the beginning."""

    def __init__(self, codec: Codec, offset: int = 0) -> None:
        self._codec, self._offset = codec, offset
        self._texts = TextStream(codec.decode, ())

    def write(self, scores: Sequence[TokenScore]) -> Logprobs:
        """The next tokens'. Each has the likeliest tokens in its place, and itself."""
        name = self._codec.token_name
        lists = Logprobs()
        for score in scores:
            lists.tokens.append(name(score.token))
            lists.token_logprobs.append(score.logprob)
            lists.text_offset.append(self._offset)
            top = None
            if score.logprob is not None:
                top = {name(token): logprob for token, logprob in score.top} | {name(score.token): score.logprob}
            lists.top_logprobs.append(top)
            self._offset += len(self._texts.push(score.token))
        return lists
