// @ts-check
/**
 * Operations as they go: `<op-progress data-id>` is one, with a bar per layer of a pull; `<op-tray>`
 * in the top bar holds all that are under way; `<op-list data-target-type="image">` stands in a page.
 */

import { announce, element, find } from "../dom.js";
import { bytes, familiar, humanise } from "../format.js";
import { live, listen, unlisten } from "../live.js";
import { toast } from "../toasts.js";
import { api } from "../api.js";

/** @typedef {Record<string, any>} Operation */

const LIVE = ["pending", "running"];
const LINGER = 8000;

/** Operations that this tab has heard of, newest first. */
class Operations extends EventTarget {
  /** @type {Map<string, Operation>} */
  #rows = new Map();
  #started = false;

  start() {
    if (this.#started) return;
    this.#started = true;
    live.subscribe("operations", (message) => {
      if (message.type === "snapshot") for (const row of message.data ?? []) this.add(row, false);
      else if (message.type === "row" || message.type === "progress") this.add(message.data, true);
    });
    document.addEventListener("slipway:operation", (event) => this.add(/** @type {CustomEvent} */ (event).detail, true));
  }

  /** @param {Operation} row @param {boolean} fresh happened just now, not read from a snapshot */
  add(row, fresh) {
    if (!row?.id) return;
    const before = this.#rows.get(row.id);
    // The answer to a request may arrive after the message that it has finished.
    if (before && !LIVE.includes(before.status) && LIVE.includes(row.status)) return;
    this.#rows.set(row.id, { ...before, ...row });
    const ended = before && LIVE.includes(before.status) && !LIVE.includes(row.status);
    this.dispatchEvent(new CustomEvent("change", { detail: { row: this.#rows.get(row.id), ended: Boolean(ended), fresh } }));
  }

  /** @param {string} id */
  get(id) {
    return this.#rows.get(id);
  }

  get all() {
    return [...this.#rows.values()].sort((one, other) => String(other.created_at).localeCompare(String(one.created_at)));
  }
}

const operations = new Operations();

class OpProgress extends HTMLElement {
  connectedCallback() {
    operations.start();
    operations.addEventListener("change", this.#changed);
    this.dataset.keep = "";
    const row = operations.get(this.dataset.id ?? "");
    if (row) this.#draw(row);
    else this.#read();
  }

  disconnectedCallback() {
    operations.removeEventListener("change", this.#changed);
  }

  /** @param {Event} event */
  #changed = (event) => {
    const { row } = /** @type {CustomEvent} */ (event).detail;
    if (row.id === this.dataset.id) this.#draw(row);
  };

  async #read() {
    try {
      operations.add(await api("GET", `/api/v1/operations/${this.dataset.id}`), false);
    } catch {
      this.remove();
    }
  }

  /** @param {Operation} row */
  #draw(row) {
    const name = familiar(row.target_name || "");
    const title = element("span", { class: "op-title" }, `${humanise(row.kind)}${name ? ` · ${name}` : ""}`);
    const head = element("div", { class: "op-head" }, title, element("span", { class: "op-state", "data-status": row.status }, stateText(row)));
    if (LIVE.includes(row.status) && document.body.dataset.mayOperate === "true") {
      head.append(element("button", { type: "button", class: "link small-text", "data-post": `/api/v1/operations/${row.id}/cancel`, "aria-label": `Cancel ${row.kind} ${name}` }, "Cancel"));
    }
    const body = [head];
    if (LIVE.includes(row.status)) body.push(...progressBars(row));
    if (row.error && row.status === "failed") {
      const text = element("p", { class: "op-error" }, row.error.message ?? "It failed.");
      if (row.error.hint) text.append(" ", element("span", { class: "hint" }, row.error.hint));
      body.push(text);
    }
    // The cancel button must survive being drawn again while it has the focus.
    const focused = this.contains(document.activeElement);
    this.replaceChildren(...body);
    if (focused) find("button", this)?.focus();
  }
}

/** @param {Operation} row */
function stateText(row) {
  if (row.status === "running" && row.progress?.text) return String(row.progress.text);
  if (row.status === "running") return row.cancel_requested ? "cancelling" : "working";
  if (row.status === "pending") return "waiting";
  return row.status;
}

/** @param {Operation} row @returns {HTMLElement[]} */
function progressBars(row) {
  const parts = Object.entries(row.progress?.parts ?? {});
  if (!parts.length) return [bar(null)];
  const list = element("div", { class: "op-parts" });
  for (const [name, part] of parts) {
    const done = part.stage === "done" || part.stage === "exists";
    const share = done ? 1 : part.total ? part.current / part.total : null;
    const label = name ? name.replace(/^sha256:/, "").slice(0, 12) : "all";
    const amount = done
      ? part.stage === "exists" ? "already here" : "done"
      : part.total ? `${part.stage} ${bytes(part.current)} / ${bytes(part.total)}` : part.stage;
    list.append(element("div", { class: "op-part" }, element("code", {}, label), bar(part.stage === "waiting" ? 0 : share), element("span", { class: "amount" }, amount)));
  }
  return [list];
}

/** @param {number|null} share null: it goes on, nobody knows how far */
function bar(share) {
  const fill = element("span");
  const whole = element("span", { class: share === null ? "bar unknown" : "bar" }, fill);
  if (share !== null) fill.style.width = `${Math.round(share * 100)}%`;
  return whole;
}

/** @param {Operation} row @returns {[string, {kind: "success", hint: string}]} */
function committed({ target_name: name, result }) {
  const image = familiar(result.references?.[0] ?? "") || String(result.id).slice(7, 19);
  const left = result.left_out ?? [];
  const hint = left.length ? `Left out, because no image may hold devices: ${left.slice(0, 5).join(", ")}` : "";
  return [`The image ${image} is made of ${name}.`, { kind: "success", hint }];
}

/** In the top bar: how many are under way, and a panel with the latest. */
class OpTray extends HTMLElement {
  connectedCallback() {
    operations.start();
    operations.addEventListener("change", this.#changed);
    this.querySelector("button")?.addEventListener("click", () => this.#toggle());
    document.addEventListener("click", (event) => {
      if (event.target instanceof Node && !this.contains(event.target)) this.#close();
    });
    this.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.#close();
      this.querySelector("button")?.focus();
    });
    this.#count();
  }

  disconnectedCallback() {
    operations.removeEventListener("change", this.#changed);
  }

  get panel() {
    return /** @type {HTMLElement} */ (this.querySelector(".tray-panel"));
  }

  /** @param {Event} event */
  #changed = (event) => {
    const { row, ended, fresh } = /** @type {CustomEvent} */ (event).detail;
    this.#count();
    if (!this.panel.hidden) this.#draw();
    if (!ended || !fresh) return;
    const what = `${humanise(row.kind)} ${familiar(row.target_name || "")}`.trim();
    announce(`${what} ${row.status}`);
    const shown = document.querySelector(`main op-progress[data-id="${CSS.escape(row.id)}"], create-form[data-operation="${CSS.escape(row.id)}"]`)
      || row.kind === "container.create" && document.querySelector("create-form[data-asking]")
      || document.getElementById("main")?.dataset.page === "container" && location.pathname.includes(row.target_id);
    // The image is on another page than its container.
    if (row.kind === "container.commit" && row.status === "succeeded") toast(...committed(row));
    if (row.status === "failed" && !shown) toast(`${what} failed. ${row.error?.message ?? ""}`, { kind: "danger", hint: row.error?.hint ?? "" });
  };

  #count() {
    const count = operations.all.filter((row) => LIVE.includes(row.status)).length;
    const button = this.querySelector("button");
    const text = this.querySelector("[data-tray-text]");
    button?.setAttribute("data-live", String(count > 0));
    if (text) text.textContent = count ? `${count} running` : "Operations";
  }

  #toggle() {
    const open = this.panel.hidden;
    this.panel.hidden = !open;
    this.querySelector("button")?.setAttribute("aria-expanded", String(open));
    if (open) this.#draw();
  }

  #close() {
    this.panel.hidden = true;
    this.querySelector("button")?.setAttribute("aria-expanded", "false");
  }

  #draw() {
    const rows = operations.all.slice(0, 8);
    const wanted = rows.map((row) => row.id).join();
    if (this.panel.dataset.rows === wanted) return;
    this.panel.dataset.rows = wanted;
    const items = rows.map((row) => element("op-progress", { "data-id": row.id }));
    const none = element("p", {}, "Nothing is under way.");
    this.panel.replaceChildren(...(items.length ? items : [none]), element("a", { class: "all", href: "/operations/" }, "All operations"));
    /** @type {any} */ (window).htmx?.process(this.panel);
  }
}

/** Operations of one kind of object, in the page that they change. */
class OpList extends HTMLElement {
  connectedCallback() {
    operations.start();
    operations.addEventListener("change", this.#changed);
    for (const row of operations.all) if (LIVE.includes(row.status)) this.#show(row);
    this.#tidy();
  }

  disconnectedCallback() {
    operations.removeEventListener("change", this.#changed);
  }

  /** @param {Event} event */
  #changed = (event) => {
    const { row, ended } = /** @type {CustomEvent} */ (event).detail;
    if (LIVE.includes(row.status)) this.#show(row);
    if (ended && row.status !== "failed") {
      setTimeout(() => {
        find(`[data-id="${CSS.escape(row.id)}"]`, this)?.remove();
        this.#tidy();
      }, LINGER);
    }
  };

  /** @param {Operation} row */
  #show(row) {
    if (row.target_type !== this.dataset.targetType) return;
    if (!find(`[data-id="${CSS.escape(row.id)}"]`, this)) this.prepend(element("op-progress", { "data-id": row.id }));
    this.#tidy();
  }

  #tidy() {
    this.hidden = !this.childElementCount;
  }
}

customElements.define("op-progress", OpProgress);
customElements.define("op-tray", OpTray);
customElements.define("op-list", OpList);
