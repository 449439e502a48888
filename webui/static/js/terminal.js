// @ts-check
/** A terminal in a container: xterm.js on one end of a websocket, a process on the other. */

/* The vendored builds set globals. */
const { Terminal, FitAddon } = /** @type {any} */ (window);

const container = document.body.dataset.container ?? "";
const form = /** @type {HTMLFormElement} */ (document.getElementById("terminal-form"));
const button = /** @type {HTMLButtonElement} */ (document.getElementById("terminal-connect"));
const state = /** @type {HTMLElement} */ (document.getElementById("terminal-state"));
const area = /** @type {HTMLElement} */ (document.getElementById("terminal-screen"));

const SIGNED_OUT = 4401; // the server's close code for a session that has ended

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

terminal.loadAddon(fit);
terminal.open(area);
fit.fit();

terminal.onData((/** @type {string} */ text) => send(new TextEncoder().encode(text)));
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
connect();

function connect() {
  const fields = new FormData(form);
  const query = new URLSearchParams({
    command: String(fields.get("command") ?? ""),
    user: String(fields.get("user") ?? ""),
    rows: String(terminal.rows),
    columns: String(terminal.cols),
  });
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const opened = new WebSocket(`${scheme}://${location.host}/ws/containers/${container}/terminal/?${query}`);
  opened.binaryType = "arraybuffer";
  socket = opened;
  terminal.reset();
  show("Connecting…");
  label("Disconnect");
  opened.addEventListener("open", () => {
    show("Connected");
    terminal.focus();
  });
  opened.addEventListener("message", (event) => {
    if (typeof event.data === "string") ended(JSON.parse(event.data));
    else terminal.write(new Uint8Array(event.data));
  });
  opened.addEventListener("close", (event) => {
    if (socket !== opened) return;
    socket = null;
    label("Connect");
    if (event.code === SIGNED_OUT) window.parent.location.reload();
    else if (state.textContent === "Connected" || state.textContent === "Connecting…") show("Disconnected");
  });
}

/** @param {{exit_code?: number|null, message?: string, hint?: string}} end */
function ended(end) {
  if (end.message) show(`${end.message} ${end.hint ?? ""}`.trim(), "bad");
  else show(`Ended with exit code ${end.exit_code}`, end.exit_code ? "bad" : "");
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
