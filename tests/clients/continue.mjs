// Continue's adapters, unmodified: completions, streamed completions, fill in the middle, the list of models.
import assert from "node:assert/strict";
import { constructLlmApi } from "@continuedev/openai-adapters";

const api = constructLlmApi({ provider: "openai", apiBase: `${process.env.CODELM_SERVER}/v1/`, apiKey: "none" });
const signal = new AbortController().signal;
const keys = { model: "tiny", prompt: "def add(a, b):\n    ", max_tokens: 12, temperature: 0 };

const plain = await api.completionNonStream({ ...keys, stream: false }, signal);
let text = "";
for await (const event of api.completionStream({ ...keys, stream: true }, signal)) text += event.choices[0]?.text ?? "";
assert.equal(text, plain.choices[0].text);

const fim = { model: "tiny", prompt: keys.prompt, suffix: "\n    return total\n", max_tokens: 12, temperature: 0, stream: true };
let middle = "";
for await (const event of api.fimStream(fim, signal)) middle += event.choices[0]?.delta.content ?? "";
const answer = await fetch(`${process.env.CODELM_SERVER}/v1/fim/completions`, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...fim, stream: false }),
});
assert.equal(middle, (await answer.json()).choices[0].message.content);
assert.ok(middle.length > 0);
assert.equal((await api.list())[0].id, "tiny");
console.log("@continuedev/openai-adapters: completions, streams, FIM and models as expected");
