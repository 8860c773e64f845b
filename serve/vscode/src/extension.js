// @ts-check
/** Inline completions in VS Code: the editor's side of `completer.js`. */

const vscode = require("vscode");
const { modelName } = require("./client");
const { Completer } = require("./completer");

const KEY = "codelm.apiKey";

/** @param {import("vscode").ExtensionContext} context */
async function activate(context) {
  let key = await context.secrets.get(KEY);
  const config = () => vscode.workspace.getConfiguration("codelm");
  const server = () => ({ address: config().get("serverAddress", "http://127.0.0.1:8000"), key });
  const settings = () => ({
    server: server(),
    maxTokens: config().get("maxTokens", 64),
    debounceMs: config().get("debounceMs", 120),
    timeoutMs: config().get("timeoutMs", 2000),
    extent: /** @type {"block" | "line"} */ (config().get("extent", "block")),
  });

  const item = vscode.window.createStatusBarItem(vscode.StatusBarAlignment.Right, 100);
  item.command = "codelm.toggle";
  /** @param {"idle" | "busy" | "error"} state @param {string} [message] */
  const report = (state, message) => {
    const on = config().get("enabled", true);
    const icon = !on ? "circle-slash" : { idle: "sparkle", busy: "loading~spin", error: "warning" }[state];
    item.text = `$(${icon}) codelm`;
    item.tooltip = message ?? (on ? `codelm: ${server().address}` : "codelm is off");
    item.show();
  };
  const completer = new Completer(settings, report);

  /** @type {import("vscode").InlineCompletionItemProvider} */
  const provider = {
    async provideInlineCompletionItems(document, position, _context, token) {
      if (!config().get("enabled", true)) return [];
      if (config().get("disabledLanguages", /** @type {string[]} */ ([])).includes(document.languageId)) return [];
      const controller = new AbortController();
      token.onCancellationRequested(() => controller.abort());
      const text = document.getText();
      const offset = document.offsetAt(position);
      const offer = await completer.offer(text.slice(0, offset), text.slice(offset), controller.signal);
      return offer === null ? [] : [new vscode.InlineCompletionItem(offer, new vscode.Range(position, position))];
    },
  };

  const check = async () => {
    try {
      const name = await modelName(server(), AbortSignal.timeout(5000));
      report("idle");
      void vscode.window.showInformationMessage(`codelm: ${server().address} serves ${name}`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      report("error", reason);
      void vscode.window.showWarningMessage(`codelm: no answer from ${server().address}: ${reason}`);
    }
  };
  const setKey = async () => {
    const given = await vscode.window.showInputBox({ prompt: "API key of the codelm server; empty for none", password: true });
    if (given === undefined) return;
    key = given || undefined;
    await (given ? context.secrets.store(KEY, given) : context.secrets.delete(KEY));
    await check();
  };
  const toggle = () => config().update("enabled", !config().get("enabled", true), vscode.ConfigurationTarget.Global);

  report("idle");
  context.subscriptions.push(
    item,
    vscode.languages.registerInlineCompletionItemProvider({ pattern: "**" }, provider),
    vscode.commands.registerCommand("codelm.toggle", toggle),
    vscode.commands.registerCommand("codelm.setKey", setKey),
    vscode.commands.registerCommand("codelm.checkServer", check),
    vscode.workspace.onDidChangeConfiguration((event) => event.affectsConfiguration("codelm") && report("idle")),
  );
}

module.exports = { activate };
