// @ts-check
/**
 * Samples of containers and of the host, shared by everything on the page that shows them, and kept
 * while the tab lives: a chart opened later starts with what was already seen, and with what the
 * server has kept of the last minutes.
 */

import { live } from "./live.js";

/** @typedef {{time: number, [key: string]: any}} Sample */

const KEEP = 900;
const STEP = 5; // seconds: a reading of the past this near to a known sample tells nothing new

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

/**
 * Readings that the server had before this page looked, some seconds apart: they fill what is not known.
 * @param {string} id @param {Sample[]} readings
 */
function earlier(id, readings) {
  const present = history.get(id) ?? [];
  const missing = readings.filter((reading) => !present.some((sample) => Math.abs(sample.time - reading.time) < STEP));
  if (!missing.length) return;
  const samples = [...present, ...missing].sort((one, other) => one.time - other.time).slice(-KEEP);
  history.set(id, samples);
  for (const watcher of watchers.get(id) ?? []) watcher(samples[samples.length - 1]);
}

/** @param {import("./live.js").Message} message */
function heardAll(message) {
  if (message.type !== "sample" && message.type !== "snapshot") return;
  for (const [id, sample] of Object.entries(message.data ?? {})) {
    if (Array.isArray(sample)) earlier(id, sample);
    else if (sample && typeof sample === "object") arrived(id, /** @type {Sample} */ (sample));
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
    if (Array.isArray(data)) earlier(id, data);
    else if (data && typeof data.time === "number") arrived(id, id === "host" ? hostRates(data) : data);
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
