// @ts-check
/** A terminal in a container: xterm.js on one end of a websocket, a process on the other. */

import { bytes } from "./format.js";
import { LineInput } from "./line-input.js";

/* The vendored builds set globals. */
const { Terminal, FitAddon } = /** @type {any} */ (window);

const container = document.body.dataset.container ?? "";
const form = /** @type {HTMLFormElement} */ (document.getElementById("terminal-form"));
const what = /** @type {HTMLSelectElement} */ (document.getElementById("terminal-what"));
const note = /** @type {HTMLElement} */ (document.getElementById("terminal-note"));
const button = /** @type {HTMLButtonElement} */ (document.getElementById("terminal-connect"));
const state = /** @type {HTMLElement} */ (document.getElementById("terminal-state"));
const area = /** @type {HTMLElement} */ (document.getElementById("terminal-screen"));

const SIGNED_OUT = 4401; // the server's close code for a session that has ended
const DETACH_KEYS = "ctrl-p,ctrl-q";
const LINES = "200"; // of the log, before what an attached process writes from now on

const terminal = new Terminal({
  cursorBlink: true,
  fontFamily: "JetBrains Mono, monospace",
  fontSize: 13,
  screenReaderMode: true,
  theme: colours(),
});
const fit = new FitAddon.FitAddon();
/** @type {WebSocket|null} */
let socket = null;
let alive = false; // nothing has been said of its end
/** @type {LineInput|null} */
let lines = null; // for a process that has no terminal

terminal.loadAddon(fit);
terminal.open(area);
fit.fit();

terminal.onData((/** @type {string} */ text) => {
  if (lines) lines.feed(text);
  else send(new TextEncoder().encode(text));
});
terminal.onBinary((/** @type {string} */ text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
terminal.onResize((/** @type {{rows: number, cols: number}} */ { rows, cols }) =>
  send(JSON.stringify({ size: [rows, cols] })),
);
new ResizeObserver(() => fit.fit()).observe(area);
for (const query of ["(prefers-color-scheme: dark)"]) {
  matchMedia(query).addEventListener("change", () => (terminal.options.theme = colours()));
}
// The page around us changes its theme by an attribute of its root.
if (window.parent !== window) {
  const root = window.parent.document.documentElement;
  const follow = () => {
    if (root.dataset.theme) document.documentElement.dataset.theme = root.dataset.theme;
    else delete document.documentElement.dataset.theme;
    terminal.options.theme = colours();
  };
  new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });
  follow();
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket) socket.close();
  else connect();
});
what.addEventListener("change", () => {
  choose();
  socket?.close();
  connect();
});
choose();
connect();

/** Show what belongs to the choice. */
function choose() {
  note.hidden = what.value !== "attach";
  for (const each of form.querySelectorAll("[data-for]")) {
    /** @type {HTMLElement} */ (each).hidden = /** @type {HTMLElement} */ (each).dataset.for !== what.value;
  }
  fit.fit();
}

function connect() {
  const fields = new FormData(form);
  const attaching = what.value === "attach";
  const query = new URLSearchParams({ rows: String(terminal.rows), columns: String(terminal.cols) });
  if (attaching) {
    query.set("logs", LINES);
    query.set("detach_keys", DETACH_KEYS);
  } else {
    query.set("command", String(fields.get("command") ?? ""));
    query.set("user", String(fields.get("user") ?? ""));
  }
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const path = `/ws/containers/${container}/${attaching ? "attach" : "terminal"}/`;
  const opened = new WebSocket(`${scheme}://${location.host}${path}?${query}`);
  opened.binaryType = "arraybuffer";
  socket = opened;
  alive = true;
  lines = null;
  terminal.reset();
  terminal.options.convertEol = false;
  show("Connecting…");
  label("Disconnect");
  opened.addEventListener("open", () => {
    if (!attaching) show("Connected");
    terminal.focus();
  });
  opened.addEventListener("message", (event) => {
    if (socket !== opened) return;
    if (typeof event.data === "string") told(JSON.parse(event.data));
    else terminal.write(new Uint8Array(event.data));
  });
  opened.addEventListener("close", (event) => {
    if (socket !== opened) return;
    socket = null;
    label("Connect");
    if (event.code === SIGNED_OUT) window.parent.location.reload();
    else if (alive) show("Disconnected");
  });
}

/**
 * @typedef {{exit_code?: number|null, restarting?: boolean, message?: string, hint?: string, detached?: boolean,
 *   skipped?: number, tty?: boolean, stdin?: boolean}} Said
 */

/** @param {Said} said */
function told(said) {
  if (said.tty !== undefined) attached(said.tty, Boolean(said.stdin));
  else if (said.skipped) terminal.write(`\r\n[${bytes(said.skipped)} skipped: too fast for this window]\r\n`);
  else ended(said);
}

/** @param {boolean} tty @param {boolean} stdin */
function attached(tty, stdin) {
  terminal.options.convertEol = !tty;
  if (stdin && !tty) {
    const end = () => {
      send(JSON.stringify({ end_of_input: true }));
      show("Attached, your input has ended");
    };
    lines = new LineInput((text) => terminal.write(text), send, end);
  }
  show(stdin ? "Attached" : "Attached, read only");
}

/** @param {Said} end */
function ended(end) {
  alive = false;
  if (end.message) show(`${end.message} ${end.hint ?? ""}`.trim(), "bad");
  else if (end.detached) show("Detached: it goes on");
  else {
    const again = end.restarting ? "; it is started again" : "";
    show(`Ended with exit code ${end.exit_code}${again}`, end.exit_code ? "bad" : "");
  }
}

/** @param {string|Uint8Array} data */
function send(data) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(data);
}

/** @param {string} text @param {string} [kind] */
function show(text, kind = "") {
  state.textContent = text;
  state.dataset.kind = kind;
}

/** @param {string} text */
function label(text) {
  const words = button.querySelector("span");
  if (words) words.textContent = text;
  button.classList.toggle("primary", text === "Connect");
}

/** The page's own tones, which follow its theme. */
function colours() {
  /** @param {string} name */
  const tone = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
  return {
    background: tone("--surface"),
    foreground: tone("--text"),
    cursor: tone("--accent"),
    cursorAccent: tone("--surface"),
    selectionBackground: tone("--accent-soft"),
  };
}
