// @ts-check
/** Numbers and times as people read them. Same wording as webui/core/templatetags/ui.py. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes in binary units: 1536 → "1.5 KiB". @param {number|null|undefined} value */
export function bytes(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  let amount = value;
  let unit = 0;
  while (Math.abs(amount) >= 1024 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(amount)} B`;
  const text = amount < 100 ? amount.toFixed(1).replace(/\.0$/, "") : amount.toFixed(0);
  return `${text} ${UNITS[unit]}`;
}

/** @param {number|null|undefined} value bytes per second */
export function rate(value) {
  return value === null || value === undefined ? "–" : `${bytes(value)}/s`;
}

/** CPU where 100 is one core: 12.34 → "12.3 %". @param {number|null|undefined} value */
export function percent(value) {
  if (value === null || value === undefined) return "–";
  return `${value < 99.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** 12345 → "12,345". @param {number} value */
export function count(value) {
  return Math.round(value).toLocaleString("en");
}

/** Seconds in the largest unit that fits. @param {number} seconds */
export function span(seconds) {
  if (seconds >= 2 * 31557600) return `${Math.round(seconds / 31557600)} y`;
  if (seconds >= 129600) return `${Math.round(seconds / 86400)} d`;
  if (seconds >= 5400) return `${Math.round(seconds / 3600)} h`;
  if (seconds >= 120) return `${Math.round(seconds / 60)} min`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

/** "5 min ago", "in 3 s", "just now". @param {Date} moment @param {number} [now] ms */
export function relative(moment, now = Date.now()) {
  const seconds = (now - moment.getTime()) / 1000;
  if (seconds < -1) return `in ${span(-seconds)}`;
  if (seconds < 5) return "just now";
  return `${span(seconds)} ago`;
}

/** @param {string} reference "docker.io/library/nginx:latest" → "nginx:latest" */
export function familiar(reference) {
  return reference.replace(/^docker\.io\//, "").replace(/^library\//, "");
}

/** A container's name as it can be shown and sent: what is no UTF-8 becomes a mark. @param {string} name */
export function wellFormed(name) {
  return name.replace(/\p{Surrogate}/gu, "\ufffd");
}

/** "image.pull" → "Image pull". @param {string} kind */
export function humanise(kind) {
  const text = kind.replace(/[._]/g, " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Bytes that a limit field means: "512m" → 536870912; null when it is not a size. @param {string} text */
export function parseBytes(text) {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*$/i.exec(text);
  if (!match) return null;
  const power = { "": 0, k: 1, m: 2, g: 3, t: 4 }[match[2].toLowerCase()] ?? 0;
  return Math.round(Number(match[1]) * 1024 ** power);
}
