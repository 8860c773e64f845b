// @ts-check
/** The server's API, as far as an editor needs it. Nothing here knows of VS Code. */

/**
 * @typedef {object} Server
 * @property {string} address such as http://127.0.0.1:8000
 * @property {string} [key] API key
 */

/**
 * @typedef {object} Question
 * @property {string} prefix text before the cursor
 * @property {string} suffix text after it
 * @property {number} maxTokens
 * @property {number} timeoutMs the answer is what there is by then
 * @property {"block" | "line"} extent
 */

/** What the server said instead of an answer. */
class ServerError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {Server} server @returns {Record<string, string>} */
function headers(server) {
  return { "Content-Type": "application/json", ...(server.key ? { Authorization: `Bearer ${server.key}` } : {}) };
}

/** @param {Server} server @param {string} path */
function url(server, path) {
  return server.address.replace(/\/+$/, "") + path;
}

/** @param {Response} response */
async function checked(response) {
  if (response.ok) return response;
  /** @type {any} */
  const body = await response.json().catch(() => null);
  throw new ServerError(response.status, body?.error?.message ?? `the server answers ${response.status}`);
}

/**
 * The text that belongs between prefix and suffix.
 * @param {Server} server
 * @param {Question} question
 * @param {AbortSignal} signal ends the request, and with it the work on the server
 * @param {typeof fetch} [fetcher]
 * @returns {Promise<string>}
 */
async function complete(server, question, signal, fetcher = fetch) {
  const body = {
    prompt: question.prefix,
    suffix: question.suffix,
    max_tokens: question.maxTokens,
    temperature: 0,
    extent: question.extent,
    max_time_ms: question.timeoutMs,
    stream: true,
  };
  const options = { method: "POST", headers: headers(server), body: JSON.stringify(body), signal };
  const response = await checked(await fetcher(url(server, "/v1/fim/completions"), options));
  let text = "";
  for await (const event of events(response)) text += event.choices[0]?.delta?.content ?? "";
  return text;
}

/**
 * The events of a stream.
 * @param {Response} response
 * @returns {AsyncGenerator<any>}
 */
async function* events(response) {
  if (!response.body) return;
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of /** @type {any} */ (response.body)) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const data = part.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(500, event.error.message);
      yield event;
    }
  }
}

/**
 * The served model's name.
 * @param {Server} server
 * @param {AbortSignal} [signal]
 * @param {typeof fetch} [fetcher]
 * @returns {Promise<string>}
 */
async function modelName(server, signal, fetcher = fetch) {
  const response = await checked(await fetcher(url(server, "/v1/models"), { headers: headers(server), signal }));
  /** @type {any} */
  const body = await response.json();
  return body.data[0].id;
}

module.exports = { ServerError, complete, modelName };
