// @ts-check
/** Which part of a log is shown: all of it, the last hours, since the last start, or between two moments. */

import { api } from "./api.js";
import { element } from "./dom.js";

/** @typedef {{since?: number, until?: number}} Range Unix seconds */

const CHOICES = /** @type {const} */ ([
  ["", "Any time"], ["900", "Last 15 minutes"], ["3600", "Last hour"], ["86400", "Last 24 hours"],
  ["start", "Since its last start"], ["between", "Between …"],
]);

export class LogRange {
  /** @type {Range} */
  #range = {};
  #id;
  #changed;
  /** @type {HTMLSelectElement} */
  #choice;
  /** @type {HTMLInputElement[]} */
  #moments;
  /** @type {HTMLElement} */
  #between;
  /** @type {HTMLElement} */
  node;

  /** @param {string} id of the container @param {() => void} changed called when another part is wanted */
  constructor(id, changed) {
    this.#id = id;
    this.#changed = changed;
    const options = CHOICES.map(([value, label]) => element("option", { value }, label));
    this.#choice = /** @type {HTMLSelectElement} */ (element("select", { "aria-label": "Time", "data-testid": "log-time" }, ...options));
    this.#moments = ["From", "To"].map((label) => /** @type {HTMLInputElement} */ (element("input", { type: "datetime-local", step: "1", "aria-label": label, title: label, "data-testid": `log-${label.toLowerCase()}` })));
    this.#between = element("span", { class: "log-between", hidden: true }, this.#moments[0], element("span", { "aria-hidden": "true" }, "–"), this.#moments[1]);
    this.node = element("span", { class: "log-range" }, this.#choice, this.#between);
    this.#choice.addEventListener("change", () => this.#chosen());
    for (const moment of this.#moments) moment.addEventListener("change", () => this.#set(this.#typed()));
  }

  get range() {
    return this.#range;
  }

  get isAll() {
    return this.#range.since === undefined && this.#range.until === undefined;
  }

  /** For a URL: "&since=…&until=…". */
  get query() {
    return Object.entries(this.#range).map(([name, value]) => `&${name}=${value}`).join("");
  }

  async #chosen() {
    const choice = this.#choice.value;
    this.#between.hidden = choice !== "between";
    if (choice === "between") {
      if (!this.#moments[0].value) this.#moments[0].value = local(new Date(Date.now() - 3_600_000));
      this.#set(this.#typed());
      this.#moments[0].focus();
    } else if (choice === "start") {
      const started = (await api("GET", `/api/v1/containers/${this.#id}`)).started_at;
      this.#set(started ? { since: Date.parse(started) / 1000 } : {});
    } else this.#set(choice ? { since: Math.floor(Date.now() / 1000) - Number(choice) } : {});
  }

  /** @returns {Range} */
  #typed() {
    const [since, until] = this.#moments.map((moment) => (moment.value ? new Date(moment.value).getTime() / 1000 : undefined));
    return { ...(since === undefined ? {} : { since }), ...(until === undefined ? {} : { until }) };
  }

  /** @param {Range} range */
  #set(range) {
    this.#range = range;
    this.#changed();
  }
}

/** As an input of local time has it. @param {Date} moment */
function local(moment) {
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
