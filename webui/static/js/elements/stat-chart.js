// @ts-check
/**
 * `<stat-chart data-id data-metric="cpu|memory|network|block|pids|pressure">`: a moving chart of one
 * container. The crosshair is shared by all charts of a page; the last value stands in words above the
 * plot, so that nothing depends on seeing the curve. What the host does not measure is not shown.
 */

import uPlot from "../../vendor/uplot.js";
import { element } from "../dom.js";
import { bytes, count, percent, rate, span } from "../format.js";
import { seen, watch } from "../stats.js";

/** @typedef {import("../stats.js").Sample} Sample */

const Plot = /** @type {any} */ (uPlot);
const WINDOW = 300; // seconds shown
const DASHES = [undefined, [5, 4], [2, 3]];
const UNITS_OF_BYTES = new Set(["memory", "network", "block"]);
// Ticks of bytes fall on round binary numbers.
const BINARY_STEPS = Array.from({ length: 44 }, (_, power) => 2 ** power);

/**
 * title; series: [label, value of a sample]; text of a value; the headline; a line of further numbers; limit
 * of the scale; whether there is any.
 * @type {Record<string, {title: string, series: [string, (s: Sample) => number|null][], text: (v: number) => string, headline: (s: Sample) => string, note?: (s: Sample) => string, limit?: (s: Sample) => number, there?: (s: Sample) => boolean, least: number}>}
 */
const METRICS = {
  cpu: {
    title: "CPU",
    series: [["use", (s) => s.cpu_percent ?? null], ["held back (share of periods)", (s) => s.throttled_percent ?? null]],
    text: (value) => percent(value),
    headline: (s) => `${percent(s.cpu_percent)}${s.cpu_limit ? ` of ${s.cpu_limit} core${s.cpu_limit === 1 ? "" : "s"}` : ", no limit"}`,
    note: (s) => s.cpu_throttled_periods ? `Held back in ${count(s.cpu_throttled_periods)} of ${count(s.cpu_periods ?? 0)} periods, for ${heldFor(s.cpu_throttled_time ?? 0)} in all` : "",
    limit: (s) => (s.cpu_limit ?? 0) * 100,
    least: 5,
  },
  memory: {
    title: "Memory",
    series: [["use", (s) => s.memory ?? null], ["file cache", (s) => s.memory_cache ?? null]],
    text: (value) => bytes(value),
    headline: (s) => `${bytes(s.memory)}${s.memory_limit ? ` of ${bytes(s.memory_limit)}` : ", no limit"}${s.oom_kills ? ` · ${s.oom_kills} OOM kill${s.oom_kills === 1 ? "" : "s"}` : ""}`,
    note: (s) => [s.memory_peak ? `Peak ${bytes(s.memory_peak)}` : "", s.swap ? `swap ${bytes(s.swap)}` : ""].filter(Boolean).join(" · "),
    limit: (s) => s.memory_limit ?? 0,
    least: 1024 * 1024,
  },
  pids: {
    title: "Processes",
    series: [["processes and threads", (s) => s.pids ?? null]],
    text: (value) => count(value),
    headline: (s) => `${count(s.pids ?? 0)}${s.pids_limit ? ` of ${count(s.pids_limit)}` : ", no limit"}`,
    limit: (s) => s.pids_limit ?? 0,
    least: 4,
  },
  // Share of the last ten seconds in which some of its processes waited (PSI).
  pressure: {
    title: "Pressure",
    series: [["waited for CPU", stall("cpu")], ["for memory", stall("memory")], ["for disks", stall("io")]],
    text: (value) => percent(value),
    headline: (s) => `${percent(Math.max(...["cpu", "memory", "io"].map((each) => stall(each)(s) ?? 0)))} of the time`,
    note: (s) => ["memory", "io"].filter((each) => s.pressure?.[`${each}.full.avg10`]).map((each) => `Nothing ran for want of ${each === "io" ? "disks" : each}: ${percent(s.pressure[`${each}.full.avg10`])}`).join(" · "),
    there: (s) => Object.keys(s.pressure ?? {}).length > 0,
    least: 5,
  },
  network: {
    title: "Network",
    series: [["received", (s) => s.net_rx_rate ?? null], ["sent", (s) => s.net_tx_rate ?? null]],
    text: (value) => rate(value),
    headline: (s) => `${rate(s.net_rx_rate)} in · ${rate(s.net_tx_rate)} out`,
    least: 1024,
  },
  block: {
    title: "Block I/O",
    series: [["read", (s) => s.block_read_rate ?? null], ["written", (s) => s.block_write_rate ?? null]],
    text: (value) => rate(value),
    headline: (s) => `${rate(s.block_read_rate)} read · ${rate(s.block_write_rate)} written`,
    least: 1024,
  },
};

/** @param {string} resource @returns {(s: Sample) => number|null} */
function stall(resource) {
  return (sample) => sample.pressure?.[`${resource}.some.avg10`] ?? null;
}

/** @param {number} nanoseconds */
function heldFor(nanoseconds) {
  const seconds = nanoseconds / 1e9;
  return seconds < 10 ? `${seconds.toFixed(1)} s` : span(seconds);
}

class StatChart extends HTMLElement {
  /** @type {any} */
  #plot = null;
  /** @type {(() => void)|null} */
  #stop = null;
  /** @type {ResizeObserver|null} */
  #resize = null;
  /** @type {HTMLElement|null} */
  #holder = null;
  /** @type {HTMLElement|null} */
  #value = null;
  /** @type {HTMLElement|null} */
  #note = null;
  /** @type {HTMLElement[]} */
  #keys = [];

  connectedCallback() {
    if (this.#holder) return;
    this.dataset.keep = "";
    const metric = this.#metric();
    this.#value = element("span", { class: "value", "data-testid": "value" }, "–");
    this.#holder = element("div", { class: "chart-plot" }, element("p", { class: "waiting" }, this.#waiting()));
    this.#keys = metric.series.map(([label], index) => element("span", { class: "key", "data-series": String(index + 1) }, label));
    const legend = element("div", { class: "chart-legend" }, ...this.#keys);
    this.#note = element("p", { class: "chart-note", "data-testid": "note", hidden: true });
    if (metric.there) this.hidden = true;
    if (metric.limit) legend.append(element("span", { class: "key", "data-series": "limit", hidden: true }, "limit"));
    this.replaceChildren(element("div", { class: "chart-head" }, element("h2", {}, metric.title), this.#value), this.#holder, legend, this.#note);
    this.#stop = watch(this.dataset.id ?? "", () => this.#draw());
    this.#resize = new ResizeObserver(() => this.#fit());
    this.#resize.observe(this.#holder);
    document.addEventListener("slipway:theme", this.#theme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.#theme);
    this.#draw();
  }

  disconnectedCallback() {
    this.#stop?.();
    this.#resize?.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
    this.#holder = null;
    document.removeEventListener("slipway:theme", this.#theme);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.#theme);
  }

  #metric() {
    return METRICS[this.dataset.metric ?? "cpu"];
  }

  #waiting() {
    return this.dataset.status === "running" ? "Waiting for the first reading" : "No readings: it is not running";
  }

  /** Colours are drawn, not styled: a change of theme draws again. */
  #theme = () => {
    this.#plot?.destroy();
    this.#plot = null;
    this.#draw();
  };

  #data() {
    const metric = this.#metric();
    const samples = seen(this.dataset.id ?? "");
    const end = samples.at(-1)?.time ?? 0;
    const shown = samples.filter((sample) => sample.time >= end - WINDOW);
    const limit = shown.map((sample) => metric.limit?.(sample) || null);
    return [
      shown.map((sample) => sample.time),
      ...metric.series.map(([, value]) => shown.map(value)),
      ...(metric.limit ? [limit] : []),
    ];
  }

  #draw() {
    const last = seen(this.dataset.id ?? "").at(-1);
    if (!last || !this.#holder || !this.#value) return;
    const metric = this.#metric();
    if (metric.there) this.hidden = !metric.there(last);
    if (this.hidden) return;
    this.#value.textContent = metric.headline(last);
    const note = metric.note?.(last) ?? "";
    if (this.#note) {
      this.#note.hidden = !note;
      this.#note.textContent = note;
    }
    const limited = Boolean(metric.limit?.(last));
    const key = this.querySelector("[data-series=limit]");
    if (key instanceof HTMLElement) key.hidden = !limited;
    if (!this.#plot) this.#make();
    this.#plot.setData(this.#data());
  }

  #make() {
    const holder = /** @type {HTMLElement} */ (this.#holder);
    holder.replaceChildren();
    const metric = this.#metric();
    const colour = (/** @type {string} */ name) => resolveColour(holder, name);
    const axis = { stroke: colour("--text-faint"), grid: { stroke: colour("--series-grid"), width: 1 }, ticks: { show: false }, font: "11px Inter, sans-serif" };
    const series = [
      {},
      ...metric.series.map(([label], index) => ({ label, stroke: colour(`--series-${index + 1}`), width: index ? 1.5 : 1.75, dash: DASHES[index], points: { show: false } })),
      ...(metric.limit ? [{ label: "limit", stroke: colour("--bad"), width: 1, points: { show: false } }] : []),
    ];
    this.#plot = new Plot({
      width: Math.max(200, holder.clientWidth),
      height: holder.clientHeight || 180,
      padding: [12, 16, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "slipway" }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: (/** @type {any} */ _u, /** @type {number} */ _low, /** @type {number} */ high) => [high - WINDOW, high] },
        y: { range: (/** @type {any} */ _u, /** @type {number} */ _low, /** @type {number} */ high) => [0, Math.max(metric.least, (high || 0) * 1.1)] },
      },
      axes: [
        { ...axis, space: 70, size: 28, values: (/** @type {any} */ _u, /** @type {number[]} */ ticks) => ticks.map(clock) },
        { ...axis, size: 72, space: 36, ...(UNITS_OF_BYTES.has(this.dataset.metric ?? "") ? { incrs: BINARY_STEPS } : {}), values: (/** @type {any} */ _u, /** @type {number[]} */ ticks) => ticks.map((tick) => metric.text(tick).replace(/\.0(?= %)/, "")) },
      ],
      series,
      hooks: { setCursor: [(/** @type {any} */ plot) => this.#cursor(plot)] },
    }, this.#data(), holder);
  }

  /** Values under the crosshair, in the legend. @param {any} plot */
  #cursor(plot) {
    const metric = this.#metric();
    this.#keys.forEach((key, index) => {
      const value = plot.cursor.idx === null || plot.cursor.idx === undefined ? null : plot.data[index + 1]?.[plot.cursor.idx];
      const label = metric.series[index][0];
      key.textContent = value === null || value === undefined ? label : `${label} ${metric.text(value)}`;
    });
  }

  #fit() {
    if (this.#plot && this.#holder) this.#plot.setSize({ width: Math.max(200, this.#holder.clientWidth), height: this.#holder.clientHeight });
  }
}

/** "14:05", with seconds where a tick needs them. @param {number} time Unix seconds */
function clock(time) {
  const moment = new Date(time * 1000);
  const parts = [moment.getHours(), moment.getMinutes(), ...(moment.getSeconds() ? [moment.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/** A token as the browser computes it (light-dark() is not a canvas colour). @param {HTMLElement} at @param {string} name */
function resolveColour(at, name) {
  const probe = element("span", { hidden: true });
  probe.style.color = `var(${name})`;
  at.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

customElements.define("stat-chart", StatChart);
