// @ts-check
/** `<change-list data-id="…" data-kept="…">`: what a container has changed outside its volumes, and would be lost with it. */

import { api } from "../api.js";
import { announce, element, icon } from "../dom.js";
import { bytes, wellFormed } from "../format.js";

/** @typedef {{path: string, kind: "added"|"modified"|"deleted", size: number|null}} Change */

const ORDER = new Intl.Collator(undefined, { numeric: true });
const MOST = 10_000; // asked for
const PART = 300; // drawn at a time
const KINDS = /** @type {const} */ ({
  added: ["added", "add", "good"],
  modified: ["changed", "edit", "warn"],
  deleted: ["deleted", "remove", "bad"],
});

/** How a name stands to the image. @param {string} kind @param {string} [extra] */
export function mark(kind, extra = "") {
  const [word, picture, tone] = KINDS[/** @type {Change["kind"]} */ (kind)];
  return element("span", { class: `chip ${tone} ${extra}`.trim(), "data-change": kind }, icon(picture, "small"), word);
}

class ChangeList extends HTMLElement {
  #body = element("tbody");
  #note = element("p", { class: "soft", role: "status", "data-testid": "changes-note" }, "Reading…");
  #tools = element("div", { class: "filters", hidden: true });
  #more = element("button", { type: "button", class: "button" });
  #wrap = element("div", { class: "table-wrap", hidden: true });
  /** @type {Change[]} */
  #all = [];
  #kind = "";
  #text = "";
  #shown = PART;

  connectedCallback() {
    if (this.firstChild) return;
    const refresh = element("button", { type: "button", class: "button" }, icon("restart"), "Refresh");
    refresh.addEventListener("click", () => this.#load());
    const commit = element("button", { type: "button", class: "button", "data-dialog": this.dataset.commit }, icon("image"), "Commit as image");
    const heads = ["Change", "Path", "Size"].map((text) => element("th", { scope: "col", class: text === "Size" ? "number" : null }, text));
    const caption = element("caption", { class: "visually-hidden" }, "What has changed");
    this.#wrap.append(element("table", { class: "table" }, caption, element("thead", {}, element("tr", {}, ...heads)), this.#body));
    this.#more.addEventListener("click", () => {
      this.#shown += PART;
      this.#draw();
    });
    this.append(
      element("div", { class: "section-head" }, element("h2", {}, "Changes"), element("div", { class: "actions" }, ...(this.dataset.commit ? [commit] : []), refresh)),
      this.#note, this.#tools, this.#wrap, this.#more,
    );
    this.#load();
  }

  async #load() {
    try {
      /** @type {Change[]} */
      const found = await api("GET", `/api/v1/containers/${this.dataset.id}/changes?limit=${MOST}`);
      this.#all = found.sort((one, other) => ORDER.compare(one.path, other.path));
      this.#summary();
      this.#draw();
    } catch (error) {
      this.#all = [];
      this.#tools.hidden = this.#wrap.hidden = this.#more.hidden = true;
      this.#note.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  #summary() {
    const nothing = !this.#all.length;
    this.#tools.hidden = nothing;
    if (nothing) {
      this.#note.textContent = "It has changed nothing outside its volumes: removing it deletes no files.";
      return;
    }
    const total = this.#all.reduce((sum, change) => sum + (change.size ?? 0), 0);
    const count = this.#all.length === MOST ? "The first 10,000 paths" : this.#all.length === 1 ? "One path" : `${this.#all.length} paths`;
    this.#note.replaceChildren(
      element("strong", {}, `${count}, ${bytes(total)} in files.`),
      ` They are in no volume: removing the container deletes what is added and changed.${this.dataset.kept ? ` ${this.dataset.kept}` : ""}`,
    );
    this.#filters();
  }

  #filters() {
    const buttons = ["", ...Object.keys(KINDS)].map((kind) => {
      const count = kind ? this.#all.filter((change) => change.kind === kind).length : this.#all.length;
      const word = kind ? KINDS[/** @type {Change["kind"]} */ (kind)][0] : "all";
      const button = element("button", { type: "button", "aria-pressed": String(kind === this.#kind) }, `${word.charAt(0).toUpperCase()}${word.slice(1)} `, element("span", { class: "faint num" }, String(count)));
      button.addEventListener("click", () => {
        this.#kind = kind;
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        this.#redraw();
      });
      return button;
    });
    const text = /** @type {HTMLInputElement} */ (element("input", { type: "search", placeholder: "Filter by path", "aria-label": "Filter by path" }));
    text.value = this.#text;
    text.addEventListener("input", () => {
      this.#text = text.value.trim();
      this.#redraw();
    });
    this.#tools.replaceChildren(
      element("div", { class: "segments", role: "group", "aria-label": "Kind of change" }, ...buttons),
      element("span", { class: "filter-text" }, icon("search"), text),
    );
  }

  #redraw() {
    this.#shown = PART;
    announce(`${this.#draw()} paths`);
  }

  /** Draw what the filters let through; says how many that are. */
  #draw() {
    const chosen = this.#all.filter((change) => (!this.#kind || change.kind === this.#kind) && change.path.includes(this.#text));
    this.#body.replaceChildren(...chosen.slice(0, this.#shown).map(line));
    this.#wrap.hidden = !chosen.length;
    this.#more.hidden = chosen.length <= this.#shown;
    this.#more.textContent = `Show more of ${chosen.length}`;
    return chosen.length;
  }
}

/** @param {Change} change */
function line(change) {
  const directory = change.path.replace(/\/[^/]*$/, "") || "/";
  const path = element("code", {}, wellFormed(change.path));
  const shown = change.kind === "deleted" ? path : element("a", { href: `?tab=files&path=${encodeURIComponent(wellFormed(directory))}` }, path);
  return element(
    "tr", { "data-testid": "change" },
    element("td", { class: "nowrap change-kind" }, mark(change.kind)),
    element("td", { class: "path" }, shown),
    element("td", { class: "number" }, change.size === null ? "" : bytes(change.size)),
  );
}

customElements.define("change-list", ChangeList);
