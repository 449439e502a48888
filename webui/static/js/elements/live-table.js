// @ts-check
/**
 * `<live-table data-topic="containers" data-stats>`: rows drawn by the server, kept true by messages.
 * Rows have ids, so that a morph never makes one object's row out of another's: htmx remembers the link that
 * an element had. A changed row is asked for alone (`?only=id`) and morphed; numbers that move every second are
 * written into their cells. Long lists come in pages (`data-paged`, the order): of what is on the others only
 * the counts are drawn again, unless the order may have changed.
 */

import { announce, find, findAll, throttled } from "../dom.js";
import { api } from "../api.js";
import { bytes, percent } from "../format.js";
import { listen, unlisten } from "../live.js";
import { fetchPage, morph, morphAlong } from "../regions.js";
import { seen, watchAll } from "../stats.js";
import { toastError } from "../toasts.js";
import { SparkLine, UsageBar } from "./small.js";

const ORDER_EVERY = 5000;
const MANY = 40;

class LiveTable extends HTMLElement {
  /** @type {Set<string>} */
  #changed = new Set();
  #structure = false;
  #ordered = 0;
  #loaded = false;
  /** Rows by id, as far as they were looked up. @type {Map<string, HTMLElement>} */
  #index = new Map();
  /** Ids on all pages, as far as heard of. @type {Set<string>} */
  #all = new Set();
  #counts = false;
  /** Rows that somebody can see; only those are given numbers every second. @type {Set<Element>} */
  #seen = new Set();
  /** @type {IntersectionObserver|null} */
  #eye = null;
  /** @type {(() => void)|null} */
  #stopStats = null;

  connectedCallback() {
    if (this.#loaded) return;
    this.#loaded = true;
    const update = throttled(() => this.#update(), 120);
    if (this.dataset.topic) {
      listen(this, this.dataset.topic, (message) => {
        if (message.type === "snapshot") this.#compare(message.data ?? []);
        else if (message.type === "row") this.#mark(message.data);
        else if (message.type === "gone") this.#gone(String(message.data?.id));
        if (this.#changed.size || this.#structure || this.#counts) update();
      });
    }
    if (this.dataset.stats) this.#stopStats = watchAll((samples) => this.#samples(samples));
    this.#eye = new IntersectionObserver((entries) => this.#looked(entries), { rootMargin: "200px 0px" });
    this.#watchRows();
    this.addEventListener("change", (event) => this.#selection(event));
    this.addEventListener("click", (event) => this.#bulk(event));
    document.addEventListener("slipway:filter", this.#filter);
  }

  disconnectedCallback() {
    this.#loaded = false;
    unlisten(this);
    this.#eye?.disconnect();
    this.#seen.clear();
    this.#stopStats?.();
    document.removeEventListener("slipway:filter", this.#filter);
  }

  #filter = () => {
    this.#structure = true;
    this.#update();
  };

  #rows() {
    return findAll("tbody > tr[data-id]", this);
  }

  /** @param {string} id @returns {HTMLElement|null} */
  #row(id) {
    const known = this.#index.get(id);
    if (known?.isConnected && known.dataset.id === id) return known;
    this.#index = new Map(this.#rows().map((row) => [row.dataset.id ?? "", row]));
    return this.#index.get(id) ?? null;
  }

  #watchRows() {
    for (const row of this.#rows()) this.#eye?.observe(row);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #looked(entries) {
    for (const entry of entries) {
      if (entry.isIntersecting && entry.target.isConnected) {
        this.#seen.add(entry.target);
        this.#drawStats(/** @type {HTMLElement} */ (entry.target));
      } else this.#seen.delete(entry.target);
    }
  }

  /** @param {{id: string, revision: number}[]} rows */
  #compare(rows) {
    const known = new Map(this.#rows().map((row) => [row.dataset.id ?? "", row.dataset.rev]));
    const other = rows.length !== Number(this.dataset.total) || (this.#all.size > 0 && rows.some((row) => !this.#all.has(row.id)));
    this.#all = new Set(rows.map((row) => row.id));
    const paged = this.dataset.paged !== undefined;
    if (paged && other) this.#structure = true;
    for (const row of rows) {
      if (!known.has(row.id)) this.#structure ||= !paged && this.dataset.filtered !== "true";
      else if (String(row.revision) !== known.get(row.id)) this.#changed.add(row.id);
    }
    for (const id of known.keys()) if (!this.#all.has(id)) this.#gone(id);
  }

  /** @param {{id: string, revision?: number}} data */
  #mark(data) {
    const row = this.#row(data.id);
    const elsewhere = !row && this.dataset.paged !== undefined && this.#all.has(data.id);
    this.#all.add(data.id);
    if (this.dataset.filtered === "true" || this.dataset.paged?.endsWith("state")) this.#structure = true;
    else if (elsewhere) this.#counts = true;
    else if (row) this.#changed.add(data.id);
    else this.#structure = true;
  }

  /** @param {string} id */
  #gone(id) {
    const row = this.#row(id);
    this.#all.delete(id);
    if (this.dataset.paged !== undefined) this.#structure = true; // The next page's first moves up.
    if (!row) return;
    row.classList.add("leaving");
    announce(`${row.dataset.name ?? "A row"} is gone.`);
    setTimeout(() => {
      row.remove();
      if (!this.#rows().length && this.dataset.filtered !== "true") location.reload();
      else this.#few([]).catch(() => {});
      this.#count();
    }, 250);
  }

  async #update() {
    const ids = [...this.#changed];
    const structure = this.#structure || ids.length > MANY;
    const counts = this.#counts;
    this.#changed.clear();
    this.#structure = this.#counts = false;
    try {
      if (structure) await this.#whole();
      else if (ids.length || counts) await this.#few(ids);
    } catch {
      this.#structure = true; // Drawn again with the next message or snapshot.
    }
  }

  async #whole() {
    const before = new Set(this.#rows().map((row) => row.dataset.id));
    const where = location.href;
    const page = await fetchPage(where);
    const fresh = page?.getElementById(this.id);
    // Whoever navigated meanwhile must not get the old page's rows.
    if (!page || location.href !== where) return;
    if (!fresh) {
      location.reload();
      return;
    }
    morph(this, fresh);
    this.#head(page);
    for (const row of this.#rows()) {
      if (!before.has(row.dataset.id)) row.classList.add("arrived");
      if (this.#seen.has(row)) this.#drawStats(row);
    }
    this.#watchRows();
    this.#count();
  }

  /** @param {string[]} ids */
  async #few(ids) {
    const url = new URL(location.href);
    url.searchParams.set("only", ids.join(","));
    const page = await fetchPage(url.href);
    for (const id of ids) {
      const fresh = page?.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
      const row = this.#row(id);
      if (!fresh || !row) continue;
      const before = row.dataset.status;
      morph(row, fresh);
      const now = this.#row(id);
      if (now) this.#drawStats(now);
      if (now?.dataset.status !== before) announce(`${now?.dataset.name}: ${now?.dataset.status}`);
    }
    if (page) this.#head(page);
  }

  /** Counts above the table go along with it; their links must not ask for these rows alone. @param {Document} page */
  #head(page) {
    for (const link of page.querySelectorAll(`[data-with="${this.id}"] a[href^='?']`)) {
      const query = new URLSearchParams(link.getAttribute("href") ?? "");
      query.delete("only");
      link.setAttribute("href", `?${query}`);
    }
    morphAlong(this.id, page);
  }

  /** @param {Record<string, import("../stats.js").Sample>} samples */
  #samples(samples) {
    for (const row of this.#seen) {
      if (row instanceof HTMLElement && samples[row.dataset.id ?? ""]) this.#drawStats(row);
    }
    if (this.dataset.order) this.#order();
  }

  /** @param {HTMLElement} row */
  #drawStats(row) {
    const samples = seen(row.dataset.id ?? "");
    const last = samples.at(-1);
    if (!last) return;
    const cpu = find("[data-cell=cpu]", row);
    if (cpu) cpu.textContent = percent(last.cpu_percent);
    const memory = find("[data-cell=memory]", row);
    if (memory) memory.textContent = last.memory_limit ? `${bytes(last.memory)} / ${bytes(last.memory_limit)}` : bytes(last.memory);
    const bar = find("[data-cell=memory-bar]", row);
    if (bar instanceof UsageBar) bar.share = last.memory_limit ? last.memory / last.memory_limit : null;
    const spark = find("[data-spark=cpu]", row);
    if (spark instanceof SparkLine) spark.draw(samples.map((sample) => [sample.time, sample.cpu_percent ?? 0]), 5);
  }

  /** The busiest first, now and then; only the first `data-rows` are shown. */
  #order() {
    if (performance.now() - this.#ordered < ORDER_EVERY && this.#ordered) return;
    this.#ordered = performance.now();
    const rows = this.#rows();
    const use = (/** @type {HTMLElement} */ row) => seen(row.dataset.id ?? "").at(-1)?.cpu_percent ?? -1;
    const sorted = [...rows].sort((one, other) => use(other) - use(one));
    if (sorted.some((row, index) => row !== rows[index]) && !this.contains(document.activeElement)) {
      rows[0]?.parentElement?.append(...sorted);
    }
    const most = Number(this.dataset.rows ?? Infinity);
    this.#rows().forEach((row, index) => { row.hidden = index >= most; });
  }

  #selected() {
    return this.#rows().filter((row) => /** @type {HTMLInputElement|null} */ (find("[data-select]", row))?.checked);
  }

  /** @param {Event} event */
  #selection(event) {
    if (!(event.target instanceof HTMLInputElement)) return;
    if (event.target.hasAttribute("data-select-all")) {
      for (const box of findAll("[data-select]", this)) {
        if (box instanceof HTMLInputElement) box.checked = event.target.checked;
      }
    }
    this.#count();
  }

  #count() {
    const bar = find("[data-bulk]", this);
    const count = this.#selected().length;
    if (!bar) return;
    bar.hidden = !count;
    const text = find("[data-bulk-count]", bar);
    if (text) text.textContent = `${count} selected`;
  }

  /** @param {Event} event */
  async #bulk(event) {
    const target = event.target instanceof Element ? event.target.closest("[data-bulk-action], [data-bulk-clear]") : null;
    if (!(target instanceof HTMLElement)) return;
    const rows = this.#selected();
    const action = target.dataset.bulkAction;
    if (action) {
      const answers = await Promise.allSettled(rows.map((row) => api("POST", `/api/v1/containers/${row.dataset.id}/${action}`, {})));
      for (const answer of answers) if (answer.status === "rejected") toastError(answer.reason);
    }
    for (const box of findAll("[data-select], [data-select-all]", this)) {
      if (box instanceof HTMLInputElement) box.checked = false;
    }
    this.#count();
  }
}

customElements.define("live-table", LiveTable);
