// @ts-check
/** When to ask the server, and what to make of its answers. Nothing here knows of VS Code. */

const { complete } = require("./client");

/** Characters before and after the cursor that are sent; the server keeps what its model has room for. */
const BEFORE = 16000;
const AFTER = 4000;

/**
 * @typedef {import("./client").Server} Server
 * @typedef {object} Settings
 * @property {Server} server
 * @property {number} maxTokens
 * @property {number} debounceMs
 * @property {number} timeoutMs
 * @property {"block" | "line"} extent
 */

/**
 * A wait that a signal ends.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

class Completer {
  /**
   * @param {() => Settings} settings as they are now
   * @param {(state: "idle" | "busy" | "error", message?: string) => void} report
   * @param {typeof fetch} [fetcher]
   */
  constructor(settings, report, fetcher = fetch) {
    this._settings = settings;
    this._report = report;
    this._fetch = fetcher;
    /** @type {AbortController | null} */
    this._current = null;
    /** @type {{prefix: string, suffix: string, text: string} | null} what was offered last */
    this._last = null;
  }

  /**
   * The text to offer between prefix and suffix, or null. A call ends the one before it.
   * @param {string} prefix
   * @param {string} suffix
   * @param {AbortSignal} signal the editor's: the user has gone on
   * @returns {Promise<string | null>}
   */
  async offer(prefix, suffix, signal) {
    this._current?.abort();
    const known = this._typedInto(prefix, suffix);
    if (known !== null) return known;
    const settings = this._settings();
    const controller = new AbortController();
    this._current = controller;
    const stop = () => controller.abort();
    signal.addEventListener("abort", stop, { once: true });
    try {
      if (signal.aborted) return null;
      await wait(settings.debounceMs, controller.signal);
      if (controller.signal.aborted) return null;
      this._report("busy");
      const { server, maxTokens, timeoutMs, extent } = settings;
      const question = { prefix: prefix.slice(-BEFORE), suffix: suffix.slice(0, AFTER), maxTokens, timeoutMs, extent };
      const text = await complete(server, question, controller.signal, this._fetch);
      this._report("idle");
      this._last = text.trim() ? { prefix, suffix, text } : null;
      return this._last && text;
    } catch (error) {
      if (!controller.signal.aborted) this._report("error", error instanceof Error ? error.message : String(error));
      else this._report("idle");
      return null;
    } finally {
      signal.removeEventListener("abort", stop);
      if (this._current === controller) this._current = null;
    }
  }

  /**
   * What is left of the last offer, if since then only its beginning has been typed.
   * @param {string} prefix
   * @param {string} suffix
   * @returns {string | null}
   */
  _typedInto(prefix, suffix) {
    const last = this._last;
    if (!last || suffix !== last.suffix || !prefix.startsWith(last.prefix)) return null;
    const typed = prefix.slice(last.prefix.length);
    return last.text.startsWith(typed) && last.text.length > typed.length ? last.text.slice(typed.length) : null;
  }
}

module.exports = { Completer };
