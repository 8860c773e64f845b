"""litellm, openai and lm-eval, unmodified, against the server at CODELM_SERVER; run in an environment of their own."""

import os

import litellm
import openai
from lm_eval.models.openai_completions import LocalCompletionsAPI

ADDRESS = os.environ["CODELM_SERVER"]
PROMPT = "def add(a, b):\n    "


def try_openai() -> str:
    """The answer that the others have to give as well."""
    client = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="none", max_retries=0)
    keys = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    text: str = client.completions.create(**keys).choices[0].text
    assert "".join(event.choices[0].text for event in client.completions.create(**keys, stream=True)) == text
    full = client.completions.create(
        **{**keys, "temperature": 0.5},
        best_of=3,
        echo=True,
        frequency_penalty=0.1,
        logit_bias={"50": -1},
        logprobs=3,
        n=2,
        presence_penalty=0.1,
        seed=1,
        stop=["never"],
        top_p=0.9,
        user="me",
    )
    assert len(full.choices) == 2
    print("openai", openai.__version__, "for Python: every parameter, streamed")
    return text


def try_litellm(text: str) -> None:
    keys = {"model": "text-completion-openai/tiny", "api_base": f"{ADDRESS}/v1", "api_key": "none"}
    asked = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    assert litellm.text_completion(**keys, **asked).choices[0].text == text
    streamed = litellm.text_completion(**keys, **asked, stream=True)
    assert "".join(event.choices[0].text or "" for event in streamed) == text
    suffixed = litellm.text_completion(**keys, **asked, suffix="\n    return total\n")
    assert suffixed.choices[0].text != text
    print("litellm: plain, streamed, with a suffix")


def try_lm_eval() -> None:
    """Log likelihoods of lm-eval equal the sums of the server's own log probabilities."""
    from types import SimpleNamespace

    model = LocalCompletionsAPI(
        model="tiny",
        base_url=f"{ADDRESS}/v1/completions",
        tokenizer=os.environ["CODELM_MODEL"],
        tokenizer_backend="huggingface",
        tokenized_requests=True,
        max_length=200,
        batch_size=2,
    )
    pairs = [(PROMPT, "return a + b"), ("for i in", " range(3):"), ("x", " = 1")]
    told = model.loglikelihood([SimpleNamespace(args=pair) for pair in pairs], disable_tqdm=True)
    client = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="none")
    for (context, continuation), (value, _) in zip(pairs, told, strict=True):
        # lm-eval scores the white space at the end of a context with the continuation.
        before, whole = (model.tok_encode(text) for text in (context.rstrip(), context + continuation))
        answer = client.completions.create(model="tiny", prompt=whole, max_tokens=0, echo=True, logprobs=1)
        assert answer.choices[0].logprobs is not None
        expected = sum(answer.choices[0].logprobs.token_logprobs[len(before) :])
        assert abs(value - expected) < 1e-3, (value, expected)
    until = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False}
    (text,) = model.generate_until([SimpleNamespace(args=(PROMPT, until))], disable_tqdm=True)
    assert isinstance(text, str)
    print("lm-eval local-completions: log likelihoods and generation")


if __name__ == "__main__":
    try_litellm(try_openai())
    try_lm_eval()
