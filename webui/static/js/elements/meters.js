// @ts-check
/** Live numbers with bars and sparklines: `<live-gauges>` of a container, `<host-gauges>`. */

import { find } from "../dom.js";
import { bytes, percent, rate, span } from "../format.js";
import { seen, watch } from "../stats.js";
import { SparkLine, UsageBar } from "./small.js";

class Gauges extends HTMLElement {
  /** @type {(() => void)|null} */
  #stop = null;

  connectedCallback() {
    this.#stop = watch(this.source, (sample) => this.show(sample));
    const last = seen(this.source).at(-1);
    if (last) this.show(last);
  }

  disconnectedCallback() {
    this.#stop?.();
  }

  get source() {
    return this.dataset.id ?? "host";
  }

  /** @param {import("../stats.js").Sample} _sample */
  show(_sample) {}

  /** @param {string} name @param {string} text */
  text(name, text) {
    const node = find(`[data-gauge="${name}"]`, this);
    if (node && node.textContent !== text) node.textContent = text;
  }

  /** @param {string} name @param {number|null} share */
  bar(name, share) {
    const node = find(`[data-gauge="${name}"]`, this);
    if (node instanceof UsageBar) node.share = share;
  }

  /** @param {string} name @param {(sample: any) => number|undefined} value @param {number} [top] */
  line(name, value, top) {
    const node = find(`[data-gauge="${name}"]`, this);
    const points = seen(this.source).map((sample) => [sample.time, value(sample)]).filter(([, each]) => each !== undefined);
    if (node instanceof SparkLine) node.draw(/** @type {[number, number][]} */ (points), top);
  }
}

class LiveGauges extends Gauges {
  /** @param {import("../stats.js").Sample} sample */
  show(sample) {
    this.text("cpu", percent(sample.cpu_percent));
    this.bar("cpu-bar", sample.cpu_limit ? (sample.cpu_percent ?? 0) / (sample.cpu_limit * 100) : null);
    this.line("cpu-line", (each) => each.cpu_percent);
    this.text("memory", bytes(sample.memory));
    this.bar("memory-bar", sample.memory_limit ? sample.memory / sample.memory_limit : null);
    this.line("memory-line", (each) => each.memory, sample.memory_limit || 0);
    this.text("network", `${rate(sample.net_rx_rate)} · ${rate(sample.net_tx_rate)}`);
    this.text("block", `${rate(sample.block_read_rate)} · ${rate(sample.block_write_rate)}`);
    this.text("pids", String(sample.pids ?? "–"));
    const throttled = (sample.cpu_throttled_time ?? 0) / 1e9;
    this.text("throttled", throttled >= 1 ? `CPU held back for ${span(throttled)} in all` : "");
  }
}

class HostGauges extends Gauges {
  /** @param {import("../stats.js").Sample} sample */
  show(sample) {
    this.text("cpu", percent(sample.cpu_percent));
    if (sample.cores) this.text("cores", `of ${sample.cores} core${sample.cores === 1 ? "" : "s"}`);
    this.line("cpu-line", (each) => each.cpu_percent, (sample.cores ?? 1) * 25);
    this.text("memory", bytes(sample.memory_total - sample.memory_available));
    this.text("memory-total", `of ${bytes(sample.memory_total)}`);
    this.line("memory-line", (each) => each.memory_total - each.memory_available, sample.memory_total);
    this.text("network", `${rate((sample.net_rx_rate ?? 0) + (sample.net_tx_rate ?? 0))}`);
    this.line("network-line", (each) => (each.net_rx_rate === undefined ? undefined : each.net_rx_rate + each.net_tx_rate));
    this.text("disk", bytes(sample.disk_total - sample.disk_free));
    this.text("disk-total", `of ${bytes(sample.disk_total)}`);
    this.bar("disk-bar", sample.disk_total ? 1 - sample.disk_free / sample.disk_total : null);
  }
}

customElements.define("live-gauges", LiveGauges);
customElements.define("host-gauges", HostGauges);
