// @ts-check
/** The extension's logic against the live server at CODELM_SERVER, whose model is called `tiny`. */

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { complete, modelName } = require("../src/client");
const { Completer } = require("../src/completer");

const address = process.env.CODELM_SERVER ?? "";
const PREFIX = "def add(a, b):\n    ";
const SUFFIX = "\n\n\nprint(add(1, 2))\n";
const settings = { server: { address }, maxTokens: 24, debounceMs: 5, timeoutMs: 20000, extent: /** @type {"block"} */ ("block") };
const never = new AbortController().signal;

/** @param {Partial<typeof settings>} [changes] */
function make(changes) {
  /** @type {string[]} */
  const states = [];
  let asked = 0;
  /** @type {typeof fetch} */
  const counting = (...what) => { asked += 1; return fetch(...what); };
  const completer = new Completer(() => ({ ...settings, ...changes }), (state) => states.push(state), counting);
  return { completer, states, asked: () => asked };
}

test("the server's model is named", async () => {
  assert.equal(await modelName({ address }), "tiny");
});

test("what is offered is the server's greedy completion of the middle", async () => {
  const { completer, states } = make();
  const body = { prompt: PREFIX, suffix: SUFFIX, max_tokens: 24, temperature: 0, extent: "block" };
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  /** @type {any} */
  const answer = await (await fetch(`${address}/v1/fim/completions`, options)).json();
  const offered = await completer.offer(PREFIX, SUFFIX, never);
  assert.equal(offered, answer.choices[0].message.content);
  assert.deepEqual(states, ["busy", "idle"]);
});

test("typing what was offered asks nothing", async () => {
  const { completer, asked } = make();
  const offered = (await completer.offer(PREFIX, SUFFIX, never)) ?? "";
  assert.ok(offered.length > 2);
  assert.equal(await completer.offer(PREFIX + offered.slice(0, 2), SUFFIX, never), offered.slice(2));
  assert.equal(asked(), 1);
  await completer.offer(`${PREFIX}something else`, SUFFIX, never);
  assert.equal(asked(), 2);
});

test("only the last of quick keystrokes asks", async () => {
  const { completer, asked } = make({ debounceMs: 60 });
  const offers = ["r", "re", "ret"].map((typed) => completer.offer(PREFIX + typed, SUFFIX, never));
  const [first, second, third] = await Promise.all(offers);
  assert.deepEqual([first, second], [null, null]);
  assert.notEqual(third, undefined);
  assert.equal(asked(), 1);
});

test("an editor that goes on ends the request and the server's work", async () => {
  const { completer } = make({ maxTokens: 200 });
  const controller = new AbortController();
  const offer = completer.offer("x = ", "", controller.signal);
  setTimeout(() => controller.abort(), 30);
  assert.equal(await offer, null);
  for (let tries = 0; tries < 200; tries += 1) {
    /** @type {any} */
    const health = await (await fetch(`${address}/health`)).json();
    if (health.active === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail("the server still works for nobody");
});

test("errors are reported in the server's words", async () => {
  /** @type {[string, string | undefined][]} */
  const told = [];
  const completer = new Completer(() => ({ ...settings, maxTokens: 100000 }), (...what) => told.push([what[0], what[1]]));
  assert.equal(await completer.offer(PREFIX, SUFFIX, never), null);
  assert.equal(told[1][0], "error");
  assert.match(told[1][1] ?? "", /max_tokens/);
  await assert.rejects(complete({ address: "http://127.0.0.1:9" }, { prefix: "", suffix: "", ...settings }, never));
});
