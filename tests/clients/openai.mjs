// OpenAI's own client for Node, unmodified: plain, streamed with usage, filled in the middle, refused, cancelled.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.CODELM_SERVER}/v1`, apiKey: "none", maxRetries: 0 });
const keys = { model: "tiny", prompt: "def add(a, b):\n    ", max_tokens: 12, temperature: 0.7, seed: 5 };

const whole = await client.completions.create({ ...keys, n: 2, logprobs: 2, echo: true, user: "me" });
assert.equal(whole.choices.length, 2);
assert.equal(whole.choices[0].logprobs.tokens.length, whole.choices[0].logprobs.text_offset.length);

const plain = await client.completions.create(keys);
let text = "", usage = null;
for await (const event of await client.completions.create({ ...keys, stream: true, stream_options: { include_usage: true } })) {
  text += event.choices[0]?.text ?? "";
  usage = event.usage ?? usage;
}
assert.equal(text, plain.choices[0].text);
assert.deepEqual(usage, plain.usage);

const middle = await client.completions.create({ ...keys, temperature: 0, suffix: "\n    return total\n" });
assert.notEqual(middle.choices[0].text, (await client.completions.create({ ...keys, temperature: 0 })).choices[0].text);

await assert.rejects(client.completions.create({ ...keys, model: "other" }), OpenAI.NotFoundError);
await assert.rejects(client.completions.create({ ...keys, temperature: 9 }), (error) => error.param === "temperature");

const stream = await client.completions.create({ ...keys, max_tokens: 200, stream: true });
for await (const _ of stream) { stream.controller.abort(); break; }
assert.equal((await client.models.list()).data[0].id, "tiny");
console.log("openai for Node: 7 calls as expected");
