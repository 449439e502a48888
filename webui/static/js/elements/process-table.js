// @ts-check
/** `<process-table data-id="…">`: the processes of a container, as of when it is opened or refreshed. */

import { api } from "../api.js";
import { element, icon } from "../dom.js";
import { bytes, span } from "../format.js";

/** @typedef {{pid: number, host_pid: number, user: number, state: string, cpu: number, memory: number, started_at: number, command: string}} Row */

const STATES = { R: "running", S: "sleeping", D: "waiting", Z: "ended", T: "stopped", I: "idle" };
const HEADS = ["Process", "On the host", "User", "State", "CPU time", "Memory", "Running for", "Command"];

class ProcessTable extends HTMLElement {
  #body = element("tbody");
  #note = element("p", { class: "soft small-text", role: "status" });

  connectedCallback() {
    if (this.firstChild) return;
    const refresh = element("button", { type: "button", class: "button" }, icon("restart"), "Refresh");
    refresh.addEventListener("click", () => this.#load());
    const head = element("tr", {}, ...HEADS.map((text) => element("th", { scope: "col" }, text)));
    const caption = element("caption", { class: "visually-hidden" }, "Processes");
    const table = element("table", { class: "table" }, caption, element("thead", {}, head), this.#body);
    this.append(
      element("div", { class: "section-head" }, element("h2", {}, "Processes"), refresh),
      this.#note,
      element("div", { class: "table-wrap" }, table),
    );
    this.#load();
  }

  async #load() {
    try {
      /** @type {Row[]} */
      const rows = await api("GET", `/api/v1/containers/${this.dataset.id}/top`);
      this.#body.replaceChildren(...rows.map(line));
      this.#note.textContent = rows.length === 1 ? "One process." : `${rows.length} processes.`;
    } catch (error) {
      this.#body.replaceChildren();
      this.#note.textContent = error instanceof Error ? error.message : String(error);
    }
  }
}

/** @param {Row} row */
function line(row) {
  const state = STATES[/** @type {keyof typeof STATES} */ (row.state)] ?? row.state;
  const cells = [
    String(row.pid), String(row.host_pid), String(row.user), state, `${row.cpu.toFixed(2)} s`,
    bytes(row.memory), span(Date.now() / 1000 - row.started_at),
  ];
  return element(
    "tr",
    {},
    ...cells.map((text) => element("td", { class: "nowrap" }, text)),
    element("td", { class: "mono command" }, row.command),
  );
}

customElements.define("process-table", ProcessTable);
