// @ts-check
/**
 * `<log-view data-id>`: a container's output as it comes. Lines are kept as data; the page holds
 * elements only for those near the eye (line-blocks.js).
 */

import { plain } from "../ansi.js";
import { element, find, icon, throttled } from "../dom.js";
import { LineBlocks } from "../line-blocks.js";
import { listen, unlisten } from "../live.js";
import { drawLine } from "../log-line.js";
import { LogRange } from "../log-range.js";

/** @typedef {import("../log-line.js").Line} Line */

const MOST = 200_000;
const DROP = 20_000;
const TAIL = 2000;
const RANGE_TAIL = 10_000; // of a part that was chosen
const LONGEST = 1 << 20; // characters; a line that goes on beyond is shown in several
const NEAR_END = 24;
const SILENCE = 800; // ms

class LogView extends HTMLElement {
  /** @type {Line[]} */
  #lines = [];
  /** Numbers of the lines shown (a stream may be filtered out). @type {number[]} */
  #shown = [];
  /** @type {LineBlocks|null} */
  #blocks = null;
  #follow = true;
  #query = "";
  /** Positions in #shown that match. @type {number[]} */
  #hits = [];
  #hit = -1;
  #streams = { stdout: true, stderr: true };
  #ended = false;
  #cleared = false;
  /** @type {LogRange|null} */
  #range = null;
  /** @type {HTMLElement|null} */
  #download = null;
  /** @type {HTMLElement|null} */
  #scroll = null;
  /** @type {HTMLElement|null} */
  #list = null;
  /** @type {Line[]} */
  #waiting = [];
  /** The line of each stream that is not over yet. @type {Record<string, Line|undefined>} */
  #open = {};
  #flush = throttled(() => this.#add(), 60);

  connectedCallback() {
    if (this.#scroll) return;
    this.dataset.keep = "";
    this.#build();
    this.#listen();
  }

  #listen() {
    const range = this.#range?.range ?? {};
    const tail = this.#range?.isAll === false ? RANGE_TAIL : TAIL;
    listen(this, `logs:${this.dataset.id}`, (message) => this.#heard(message), { tail, streams: ["stdout", "stderr"], ...range });
    // A container that has written nothing yet gets no first message to answer with.
    setTimeout(() => this.#tell(), SILENCE);
  }

  /** Another part of the log is wanted. */
  #ranged() {
    unlisten(this);
    this.#ended = this.#cleared = false;
    this.#forget();
    this.#link();
    this.#listen();
  }

  #forget() {
    this.#waiting = [];
    this.#lines = [];
    this.#open = {};
    this.#again();
  }

  /** The download has what is shown, and more of it. */
  #link() {
    const hidden = ["stdout", "stderr"].filter((name) => !this.#streams[/** @type {"stdout"|"stderr"} */ (name)]);
    const streams = hidden.map((name) => `&${name}=false`).join("");
    this.#download?.setAttribute("href", `/api/v1/containers/${this.dataset.id}/logs?timestamps=true&tail=100000${this.#range?.query ?? ""}${streams}`);
  }

  disconnectedCallback() {
    unlisten(this);
    this.#blocks?.stop();
    this.#scroll = null;
  }

  #build() {
    const search = /** @type {HTMLInputElement} */ (element("input", { type: "search", placeholder: "Search", "aria-label": "Search the log", "data-testid": "log-search", spellcheck: "false" }));
    const query = throttled(() => this.#search(search.value), 150);
    search.addEventListener("input", query);
    search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#go(event.shiftKey ? -1 : 1);
    });
    const found = element("span", { class: "log-found", role: "status" });
    this.#range = new LogRange(this.dataset.id ?? "", () => this.#ranged());
    this.#download = element("a", { class: "icon-button", download: `${this.dataset.name ?? "container"}.log`, "hx-boost": "false", "aria-label": "Download the log", title: "Download" }, icon("download"));
    this.#link();
    const tools = element("div", { class: "log-tools", role: "toolbar", "aria-label": "Log" },
      element("div", { class: "filter-text" }, icon("search"), search),
      found,
      this.#button("arrow-up", "Previous match", () => this.#go(-1)),
      this.#button("arrow-down", "Next match", () => this.#go(1)),
      this.#stream("stdout"),
      this.#stream("stderr"),
      this.#range.node,
      element("div", { class: "end-group" },
        this.#toggle("time", "Timestamps", "times"),
        this.#toggle("wrap", "Wrap lines", "wrap"),
        this.#button("clear", "Clear the view", () => this.#clear()),
        this.#download,
        this.#followButton()));
    this.#list = element("div", { class: "log-lines" });
    this.#scroll = element("div", { class: "log-scroll", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Output" }, this.#list);
    this.#scroll.addEventListener("scroll", () => this.#scrolled());
    this.#blocks = new LineBlocks(this.#scroll, this.#list, (at) => this.#draw(at));
    const foot = element("div", { class: "log-foot" }, element("span", { "data-log-count": true }, "Reading"));
    this.replaceChildren(tools, this.#scroll, foot);
  }

  /** @param {string} picture @param {string} label @param {() => void} work */
  #button(picture, label, work) {
    const button = element("button", { type: "button", class: "icon-button", "aria-label": label, title: label }, icon(picture));
    button.addEventListener("click", work);
    return button;
  }

  #followButton() {
    const button = this.#button("follow", "Follow", () => {
      this.#setFollow(!this.#follow);
      if (this.#follow) this.#toEnd();
    });
    button.dataset.testid = "log-follow";
    button.setAttribute("aria-pressed", "true");
    return button;
  }

  /** @param {string} picture @param {string} label @param {"times"|"wrap"} name */
  #toggle(picture, label, name) {
    const button = this.#button(picture, label, () => {
      const on = this.dataset[name] !== "true";
      this.dataset[name] = String(on);
      localStorage.setItem(`slipway.logs.${name}`, String(on));
      button.setAttribute("aria-pressed", String(on));
      this.#forgetHeights();
    });
    const on = localStorage.getItem(`slipway.logs.${name}`) ?? "false";
    this.dataset[name] = on;
    button.setAttribute("aria-pressed", on);
    return button;
  }

  /** @param {"stdout"|"stderr"} name */
  #stream(name) {
    const box = /** @type {HTMLInputElement} */ (element("input", { type: "checkbox", checked: true, "data-testid": `log-${name}` }));
    box.addEventListener("change", () => {
      this.#streams[name] = box.checked;
      this.#link();
      this.#again();
    });
    return element("label", { class: "check small-text" }, box, name);
  }

  /** @param {import("../live.js").Message} message */
  #heard(message) {
    if (message.type === "snapshot") {
      // After a lost connection the snapshot says everything again.
      this.#forget();
      this.#receive(Array.isArray(message.data) ? message.data : []);
    } else if (message.type === "lines") this.#receive(message.data ?? []);
    else if (message.type === "end") {
      this.#ended = true;
      this.#tell();
    } else if (message.type === "error") this.#tell(message.data?.message);
    if (message.type !== "end") this.#flush();
  }

  /** @param {Line[]} lines */
  #receive(lines) {
    this.#ended = false;
    this.#waiting.push(...lines);
  }

  #add() {
    if (!this.#list) return;
    const fresh = this.#waiting;
    this.#waiting = [];
    /** @type {Set<Line>} */
    const grown = new Set();
    for (const line of fresh) {
      const open = this.#open[line.stream];
      this.#open[line.stream] = line.partial ? open ?? line : undefined;
      if (open) {
        open.text += line.text;
        grown.add(open);
        if (open.text.length > LONGEST) this.#open[line.stream] = undefined;
        continue;
      }
      this.#lines.push(line);
      if (this.#visible(line)) this.#place(this.#lines.length - 1);
    }
    if (grown.size) this.#redrawLast(grown);
    if (this.#lines.length > MOST) {
      this.#lines.splice(0, DROP);
      this.#again();
      return;
    }
    this.#fillLast();
    if (this.#query && fresh.length) this.#find();
    this.#tell();
    if (this.#follow) this.#toEnd();
  }

  /** Lines that have become longer; the newest of their streams, so they are near the end. @param {Set<Line>} grown */
  #redrawLast(grown) {
    for (let at = this.#shown.length - 1; at >= 0 && grown.size; at -= 1) {
      if (!grown.delete(this.#lines[this.#shown[at]])) continue;
      this.#blocks?.redraw(at);
    }
  }

  /** @param {Line} line */
  #visible(line) {
    return line.stream === "stderr" ? this.#streams.stderr : this.#streams.stdout;
  }

  /** @param {number} number of a line */
  #place(number) {
    this.#shown.push(number);
    this.#blocks?.add();
  }

  /** The end is in sight while following. */
  #fillLast() {
    if (this.#follow) this.#blocks?.fillLast();
  }

  /** @param {number} at position in #shown */
  #draw(at) {
    const row = drawLine(this.#lines[this.#shown[at]], this.#query);
    if (at === this.#hits[this.#hit]) row.classList.add("is-current");
    return row;
  }

  /** Lay every line out anew: a filter changed, or old lines were dropped. */
  #again() {
    this.#blocks?.clear();
    this.#shown = [];
    this.#lines.forEach((line, number) => {
      if (this.#visible(line)) this.#place(number);
    });
    this.#find();
    this.#fillLast();
    this.#tell();
    if (this.#follow) this.#toEnd();
  }

  #forgetHeights() {
    this.#blocks?.forgetHeights();
    if (this.#follow) this.#toEnd();
  }

  #clear() {
    this.#cleared = true;
    this.#forget();
  }

  /** @param {string} text */
  #search(text) {
    this.#query = text.toLowerCase();
    this.#find();
    this.#hit = this.#hits.length - 1;
    this.#blocks?.redrawAll();
    if (this.#hits.length) this.#show(this.#hits[this.#hit]);
    this.#found();
  }

  #find() {
    this.#hits = [];
    if (this.#query) {
      this.#shown.forEach((number, at) => {
        if (plain(this.#lines[number].text).toLowerCase().includes(this.#query)) this.#hits.push(at);
      });
    }
    this.#hit = Math.min(this.#hit, this.#hits.length - 1);
    this.#found();
  }

  /** @param {number} step */
  #go(step) {
    if (!this.#hits.length) return;
    this.#hit = (this.#hit + step + this.#hits.length) % this.#hits.length;
    this.#blocks?.redrawAll();
    this.#show(this.#hits[this.#hit]);
    this.#found();
  }

  /** Bring a line into view. @param {number} at position in #shown */
  #show(at) {
    this.#setFollow(false);
    this.#blocks?.show(at);
  }

  #found() {
    const note = find(".log-found", this);
    if (!note) return;
    note.textContent = !this.#query ? "" : this.#hits.length ? `${this.#hit + 1} of ${this.#hits.length}` : "no match";
  }

  #scrolled() {
    const view = this.#scroll;
    if (!view) return;
    const end = view.scrollHeight - view.scrollTop - view.clientHeight < NEAR_END;
    if (end !== this.#follow) this.#setFollow(end);
  }

  /** @param {boolean} on */
  #setFollow(on) {
    this.#follow = on;
    find("[data-testid=log-follow]", this)?.setAttribute("aria-pressed", String(on));
    this.#tell();
  }

  #toEnd() {
    if (this.#scroll) this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /** @param {string} [problem] */
  #tell(problem) {
    const note = find("[data-log-count]", this);
    if (!note || !this.#list) return;
    const count = this.#shown.length.toLocaleString("en");
    const state = this.#ended ? "the end" : this.#follow ? "following" : "paused: scroll down to follow";
    note.textContent = problem ?? `${count} line${this.#shown.length === 1 ? "" : "s"} · ${state}`;
    let empty = find(".log-empty", this.#list);
    if (this.#shown.length) empty?.remove();
    else if (!empty) {
      empty = element("p", { class: "log-empty" }, this.#cleared ? "Cleared. New lines appear here." : this.#range?.isAll === false ? "No output in this time." : "No output yet. What it writes to stdout and stderr appears here.");
      this.#list.append(empty);
    }
  }
}

customElements.define("log-view", LogView);
