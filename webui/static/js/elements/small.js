// @ts-check
/** Small elements: a relative time, a copy button, a bar, a sparkline, a port's link, a masked value, JSON. */

import { api } from "../api.js";
import { announce, element, find, icon } from "../dom.js";
import { relative } from "../format.js";

const OPEN_UP_TO = 12; // members of an object that is shown open
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** @type {Set<RelativeTime>} */
const times = new Set();

/** `<relative-time datetime="…">`: "5 min ago", the exact time on hover. One timer moves them all. */
class RelativeTime extends HTMLElement {
  static observedAttributes = ["datetime"];

  connectedCallback() {
    times.add(this);
    this.show();
  }

  disconnectedCallback() {
    times.delete(this);
  }

  attributeChangedCallback() {
    if (this.isConnected) this.show();
  }

  show() {
    const moment = new Date(this.getAttribute("datetime") ?? "");
    if (Number.isNaN(moment.getTime())) return;
    const before = this.previousSibling?.textContent?.trimEnd() ?? "";
    // "for 5 min" and "started 5 min ago" are the same element in different sentences.
    const text = /(^|\s)for$/.test(before) ? relative(moment).replace(/ ago$/, "").replace("just now", "a moment") : relative(moment);
    if (this.textContent !== text) this.textContent = text;
    const exact = EXACT.format(moment);
    if (this.title !== exact) this.title = exact;
  }
}

setInterval(() => {
  for (const time of times) time.show();
}, 5000);

/** `<copy-button data-copy="text">`, or `data-copy-from="#selector"`. */
class CopyButton extends HTMLElement {
  connectedCallback() {
    if (this.childElementCount) return;
    const button = element("button", { type: "button", class: "icon-button", "aria-label": this.dataset.label ?? "Copy", title: this.dataset.label ?? "Copy" }, icon("copy", "small"));
    button.addEventListener("click", () => this.#copy(button));
    this.append(button);
  }

  /** @param {HTMLElement} button */
  async #copy(button) {
    const from = this.dataset.copyFrom ? find(this.dataset.copyFrom) : null;
    const text = from ? from.textContent ?? "" : this.dataset.copy ?? "";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      if (!copyBySelection(text)) return;
    }
    button.replaceChildren(icon("check", "small"));
    announce("Copied");
    setTimeout(() => button.replaceChildren(icon("copy", "small")), 1200);
  }
}

/** Where the clipboard is closed to pages (plain HTTP from another machine). @param {string} text */
function copyBySelection(text) {
  const area = /** @type {HTMLTextAreaElement} */ (element("textarea", { class: "visually-hidden", readonly: true }));
  area.value = text;
  (find("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** `<usage-bar>`: how much of a limit is used; level by how near it is. */
export class UsageBar extends HTMLElement {
  /** @param {number|null} share 0..1, null when there is no limit */
  set share(share) {
    const fill = /** @type {HTMLElement|null} */ (this.firstElementChild);
    if (!fill) return;
    this.hidden = share === null;
    if (share === null) return;
    fill.style.width = `${Math.min(100, Math.max(share > 0 ? 1 : 0, share * 100))}%`;
    this.dataset.level = share >= 0.95 ? "bad" : share >= 0.8 ? "warn" : "";
  }
}

const SPARK_SPAN = 60; // seconds

/** `<spark-line>`: the last minute as a line, from zero to its own highest value or `top`. */
export class SparkLine extends HTMLElement {
  /** @type {SVGPolylineElement|null} */
  #line = null;

  /** @param {[number, number][]} points time in seconds and value, oldest first @param {number} [top] */
  draw(points, top = 0) {
    const end = points.at(-1)?.[0] ?? 0;
    const shown = points.filter(([time]) => time >= end - SPARK_SPAN);
    if (shown.length < 2) return;
    if (!this.#line) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 100 20");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      this.#line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      svg.append(this.#line);
      this.replaceChildren(svg);
    }
    const highest = Math.max(top, ...shown.map(([, value]) => value), 1e-9);
    this.#line.setAttribute("points", shown.map(([time, value]) =>
      `${(100 - ((end - time) / SPARK_SPAN) * 100).toFixed(1)},${(19 - (value / highest) * 18).toFixed(1)}`).join(" "));
  }
}

/** `<port-link>`: a published port as a link to the machine that this page came from. */
class PortLink extends HTMLElement {
  connectedCallback() {
    this.#point();
    this.addEventListener("slipway:morphed", this.#point);
  }

  #point = () => {
    const link = this.querySelector("a");
    const { hostIp = "", hostPort } = this.dataset;
    if (!link) return;
    const everywhere = hostIp === "" || hostIp === "0.0.0.0" || hostIp === "::";
    const host = everywhere ? location.hostname : hostIp;
    link.href = `http://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${hostPort}/`;
  };
}

/** `<secret-value data-value="…">`: masked until somebody asks. */
class SecretValue extends HTMLElement {
  connectedCallback() {
    if (this.querySelector("button")) return;
    const code = this.querySelector("code");
    const button = element("button", { type: "button", class: "link small-text" }, "Show");
    button.addEventListener("click", () => {
      const hidden = button.textContent === "Show";
      if (code) code.textContent = hidden ? this.dataset.value ?? "" : "••••••";
      button.textContent = hidden ? "Hide" : "Show";
    });
    this.append(" ", button);
  }
}

/** `<json-view data-url="…">`: an object of the API as a tree to open and close; its `pre` holds the text to copy. */
class JsonView extends HTMLElement {
  async connectedCallback() {
    const tree = find("[data-tree]", this);
    if (!tree || !this.dataset.url) return;
    try {
      const data = await api("GET", this.dataset.url);
      const text = find("pre", this);
      if (text) text.textContent = JSON.stringify(data, null, 2);
      tree.replaceChildren(...Object.entries(data).map(([key, value]) => branch(key, value)));
    } catch (error) {
      tree.textContent = error instanceof Error ? error.message : String(error);
    }
  }
}

/** @param {string} key @param {unknown} value @returns {HTMLElement} */
function branch(key, value) {
  const name = element("span", { class: "json-key" }, key);
  const parts = value && typeof value === "object" ? Object.entries(value) : [];
  if (!parts.length) {
    const kind = value === null ? "null" : typeof value;
    return element("div", { class: "json-leaf" }, name, ": ", element("span", { class: `json-${kind}` }, JSON.stringify(value) ?? ""));
  }
  const count = Array.isArray(value) ? `[${parts.length}]` : `{${parts.length}}`;
  const open = parts.length <= OPEN_UP_TO;
  return element("details", { open }, element("summary", {}, name, " ", element("span", { class: "faint" }, count)), ...parts.map(([below, inner]) => branch(below, inner)));
}

customElements.define("relative-time", RelativeTime);
customElements.define("copy-button", CopyButton);
customElements.define("usage-bar", UsageBar);
customElements.define("spark-line", SparkLine);
customElements.define("port-link", PortLink);
customElements.define("secret-value", SecretValue);
customElements.define("json-view", JsonView);
