// @ts-check
/** One line of a container's output, as the page shows it. */

import { pieces } from "./ansi.js";
import { element } from "./dom.js";

/** @typedef {{time: number|string, stream: string, text: string, partial?: boolean}} Line */

/** @param {Line} line @param {string} query what is marked in it, in lower case; "" for nothing */
export function drawLine(line, query) {
  const row = element("div", { class: "log-line", "data-stream": line.stream });
  row.append(element("span", { class: "log-time" }, timeText(line.time)));
  const text = element("span", { class: "log-text" });
  for (const piece of pieces(line.text)) {
    const parts = marked(piece.text, query);
    if (piece.classes) text.append(element("span", { class: piece.classes }, ...parts));
    else text.append(...parts);
  }
  row.append(text);
  return row;
}

/** @param {string} text @param {string} query @returns {(Node|string)[]} */
function marked(text, query) {
  if (!query) return [text];
  const parts = [];
  const lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, from)) {
    if (at > from) parts.push(text.slice(from, at));
    parts.push(element("mark", {}, text.slice(at, at + query.length)));
    from = at + query.length;
  }
  if (from < text.length || !parts.length) parts.push(text.slice(from));
  return parts;
}

/** Local time to the millisecond. @param {number|string} time Unix seconds or RFC 3339 */
function timeText(time) {
  const moment = typeof time === "number" ? new Date(time * 1000) : new Date(time);
  if (Number.isNaN(moment.getTime())) return "";
  const two = (/** @type {number} */ number, size = 2) => String(number).padStart(size, "0");
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}.${two(moment.getMilliseconds(), 3)}`;
}
