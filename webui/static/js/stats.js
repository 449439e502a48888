// @ts-check
/**
 * Samples of containers and of the host, shared by everything on the page that shows them, and kept
 * while the tab lives: a chart opened later starts with what was already seen.
 */

import { live } from "./live.js";

/** @typedef {{time: number, [key: string]: any}} Sample */

const KEEP = 900;

/** @type {Map<string, Sample[]>} */
const history = new Map();
/** @type {Map<string, Set<(sample: Sample) => void>>} */
const watchers = new Map();

/** Samples seen so far, oldest first. @param {string} id container id, or "host" */
export function seen(id) {
  return history.get(id) ?? [];
}

/** @param {string} id @param {Sample} sample */
function arrived(id, sample) {
  const samples = history.get(id) ?? [];
  const last = samples[samples.length - 1];
  if (last && last.time >= sample.time) return;
  samples.push(sample);
  if (samples.length > KEEP) samples.splice(0, samples.length - KEEP);
  history.set(id, samples);
  for (const watcher of watchers.get(id) ?? []) watcher(sample);
}

/** @param {import("./live.js").Message} message */
function heardAll(message) {
  if (message.type !== "sample" && message.type !== "snapshot") return;
  for (const [id, sample] of Object.entries(message.data ?? {})) {
    if (sample && typeof sample === "object") arrived(id, /** @type {Sample} */ (sample));
  }
}

/**
 * Every running container's samples, once a second.
 * @param {(samples: Record<string, Sample>) => void} handler @returns {() => void}
 */
export function watchAll(handler) {
  return live.subscribe("stats", (message) => {
    heardAll(message);
    if (message.type === "sample" || message.type === "snapshot") handler(message.data ?? {});
  });
}

/**
 * One container's samples, or the host's.
 * @param {string} id @param {(sample: Sample) => void} handler @returns {() => void}
 */
export function watch(id, handler) {
  const topic = id === "host" ? "host" : `stats:${id}`;
  const set = watchers.get(id) ?? new Set();
  set.add(handler);
  watchers.set(id, set);
  const stop = live.subscribe(topic, receive);
  return () => {
    set.delete(handler);
    stop();
  };

  /** @param {import("./live.js").Message} message */
  function receive(message) {
    if (message.type !== "sample" && message.type !== "snapshot") return;
    const data = message.data;
    for (const sample of Array.isArray(data) ? data : [data]) {
      if (sample && typeof sample.time === "number") arrived(id, id === "host" ? hostRates(sample) : sample);
    }
  }
}

/** @type {Sample|null} */
let lastHost = null;

/** The host's counters turned into rates, where the server has not done it. @param {Sample} sample */
function hostRates(sample) {
  const before = lastHost;
  lastHost = sample;
  if (sample.cpu_percent !== undefined || !before || sample.time <= before.time) return sample;
  const seconds = sample.time - before.time;
  const total = sample.cpu_total - before.cpu_total;
  return {
    ...sample,
    cpu_percent: total > 0 ? ((sample.cpu_busy - before.cpu_busy) / total) * 100 * sample.cores : 0,
    net_rx_rate: Math.max(0, (sample.net_rx - before.net_rx) / seconds),
    net_tx_rate: Math.max(0, (sample.net_tx - before.net_tx) / seconds),
  };
}
