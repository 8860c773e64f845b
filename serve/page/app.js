// The page: an editor whose text is shown by a <pre> behind a transparent <textarea>, so that a suggestion can stand
// in the middle of it, and tokens can be coloured.

const $ = (id) => document.getElementById(id);
const text = $("text"), shown = $("shown"), state = $("state");
const DEBOUNCE_MS = 250;
const SURPRISES = 8;
const SURPRISING_BITS = 5; // one in 32

const EXAMPLE = `def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        `;

let suggestion = null; // {at, text}: a ghost after the character `at`
let marks = []; // tokens with their bits, as /v1/highlight gives them
let asking = null; // the AbortController of the request under way
let timer = 0;

function headers() {
  const key = $("key").value.trim();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

async function ask(path, body, signal) {
  const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    throw new Error(told?.error?.message ?? `the server answers ${response.status}`);
  }
  return response;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function say(message, isError = false) {
  state.textContent = message;
  state.className = isError ? "error" : "";
}

// What stands in [from, to) of the text, tokens coloured where they are known.
function pieces(from, to) {
  const nodes = [];
  let at = from;
  for (const token of marks) {
    if (token.end <= at || token.start >= to) continue;
    const start = Math.max(token.start, at), end = Math.min(token.end, to);
    if (start > at) nodes.push(text.value.slice(at, start));
    const mark = document.createElement("mark");
    mark.style.setProperty("--bits", Math.min(token.bits ?? 0, 14).toFixed(1));
    mark.textContent = text.value.slice(start, end);
    nodes.push(mark);
    at = end;
  }
  nodes.push(text.value.slice(at, to));
  return nodes;
}

function draw() {
  const cut = suggestion ? suggestion.at : text.value.length;
  const nodes = pieces(0, cut);
  if (suggestion) {
    const ghost = document.createElement("span");
    ghost.className = "ghost";
    ghost.textContent = suggestion.text;
    nodes.push(ghost, ...pieces(cut, text.value.length));
  }
  nodes.push("\n"); // as a textarea does, show an empty last line
  shown.replaceChildren(...nodes);
  scroll();
  $("accept").disabled = !suggestion?.text;
}

function scroll() {
  shown.scrollTop = text.scrollTop;
  shown.scrollLeft = text.scrollLeft;
}

function dismiss() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
  suggestion = null;
  draw();
}

async function complete() {
  dismiss();
  const at = text.selectionEnd, controller = (asking = new AbortController());
  const body = {
    prompt: text.value.slice(0, at),
    suffix: text.value.slice(at).trim() ? text.value.slice(at) : null,
    max_tokens: Number($("tokens").value),
    temperature: Number($("temperature").value),
    extent: $("extent").value,
    max_time_ms: 20000,
    stream: true,
  };
  const begun = performance.now();
  let first = 0;
  say("asking");
  try {
    const response = await ask("v1/completions", body, controller.signal);
    suggestion = { at, text: "" };
    for await (const event of events(response)) {
      if (controller.signal.aborted) return;
      first ||= performance.now() - begun;
      suggestion.text += event.choices[0]?.text ?? "";
      draw();
    }
    const total = performance.now() - begun;
    say(suggestion.text ? `first token ${first.toFixed(0)} ms, all ${total.toFixed(0)} ms` : "nothing to add here");
    if (!suggestion.text) suggestion = null;
  } catch (error) {
    if (controller.signal.aborted) return;
    suggestion = null;
    draw();
    say(error.message, true);
  } finally {
    if (asking === controller) asking = null;
  }
}

function accept() {
  if (!suggestion?.text) return false;
  const { at, text: addition } = suggestion;
  dismiss();
  text.focus();
  text.setSelectionRange(at, at);
  // Not `text.value =`, so that undo works.
  if (!document.execCommand("insertText", false, addition)) text.setRangeText(addition, at, at, "end");
  clearTimeout(timer);
  say("accepted");
  draw();
  return true;
}

async function highlight() {
  dismiss();
  const asked = text.value;
  say("reading");
  try {
    const response = await ask("v1/highlight", { text: asked });
    const answer = await response.json();
    if (text.value !== asked) return;
    // The server counts characters; JavaScript counts UTF-16 units.
    let at = 0;
    marks = answer.tokens.map((token) => {
      const start = at;
      at += token.text.length;
      return { ...token, start, end: at };
    });
    draw();
    list(answer);
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

function list(answer) {
  const found = marks.filter((token) => token.bits >= SURPRISING_BITS && token.text.trim());
  found.sort((a, b) => b.bits - a.bits);
  $("surprises").replaceChildren(...found.slice(0, SURPRISES).map(item));
  const mean = answer.bits_per_token;
  $("summary").textContent = mean === null ? "There is nothing to read." :
    `${mean.toFixed(2)} bits per token; ${found.length} tokens of ${marks.length} have more than ${SURPRISING_BITS}.`;
}

function item(token) {
  const before = text.value.slice(0, token.start).split("\n");
  const entry = document.createElement("li"), button = document.createElement("button");
  const code = document.createElement("code"), small = document.createElement("small");
  code.textContent = token.text.trim();
  const instead = token.instead.map((one) => JSON.stringify(one.text).slice(1, -1)).join("  ");
  small.textContent = `expected: ${instead}`;
  button.style.setProperty("--bits", Math.min(token.bits, 14).toFixed(1));
  button.append(`line ${before.length}: `, code, ` ${token.bits.toFixed(1)} bits`, small);
  button.onclick = () => {
    text.focus();
    text.setSelectionRange(token.start, token.end);
    draw();
  };
  entry.append(button);
  return entry;
}

text.addEventListener("input", () => {
  dismiss();
  marks = [];
  draw();
  if ($("auto").checked) timer = setTimeout(complete, DEBOUNCE_MS);
});
text.addEventListener("scroll", scroll);
text.addEventListener("click", () => suggestion && suggestion.at !== text.selectionEnd && dismiss());
document.addEventListener("keydown", (event) => {
  const key = `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.key}`;
  if (key === "Escape") dismiss();
  else if (key === "ctrl+ ") complete();
  else if (key === "ctrl+Enter") highlight();
  else if (key === "Tab" && event.target === text && !event.shiftKey && accept()) { /* accepted */ }
  else {
    if (event.target === text && /^(Arrow|Home|End|Page)/.test(event.key) && suggestion) dismiss();
    return;
  }
  if (key !== "Escape") event.preventDefault();
});
$("complete").onclick = complete;
$("accept").onclick = accept;
$("highlight").onclick = highlight;
$("key").value = sessionStorage.getItem("codelm-key") ?? "";
$("key").onchange = () => { sessionStorage.setItem("codelm-key", $("key").value); greet(); };

async function greet() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error.message);
    const [model] = answer.data;
    $("model").textContent = `${model.id}, ${model.max_model_len} tokens of context`;
  } catch (error) {
    $("model").textContent = error.message;
  }
}

text.value = EXAMPLE;
text.setSelectionRange(EXAMPLE.length, EXAMPLE.length);
draw();
greet();
