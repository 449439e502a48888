// @ts-check
/**
 * ANSI colours (SGR) in a line of text, as pieces with class names. Other escape sequences are
 * dropped. The text itself is only ever put into text nodes.
 */

/** @typedef {{text: string, classes: string}} Piece */

// CSI … final byte, OSC … BEL/ST, and other two-byte escapes.
const ESCAPES = /\x1b(?:\[([0-9;:?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g;

/** @param {string} line @returns {Piece[]} */
export function pieces(line) {
  if (!line.includes("\x1b")) return [{ text: line, classes: "" }];
  /** @type {Piece[]} */
  const found = [];
  const style = { bold: false, dim: false, italic: false, underline: false, front: -1, back: -1 };
  let from = 0;
  for (const match of line.matchAll(ESCAPES)) {
    if (match.index > from) found.push({ text: line.slice(from, match.index), classes: classes(style) });
    from = match.index + match[0].length;
    if (match[2] === "m") apply(style, match[1]);
  }
  if (from < line.length) found.push({ text: line.slice(from), classes: classes(style) });
  return found;
}

/** The line without any escape, for searching and copying. @param {string} line */
export function plain(line) {
  return line.includes("\x1b") ? line.replace(ESCAPES, "") : line;
}

/** @param {{bold: boolean, dim: boolean, italic: boolean, underline: boolean, front: number, back: number}} style @param {string} codes */
function apply(style, codes) {
  const list = codes === "" ? [0] : codes.split(/[;:]/).map(Number);
  for (let at = 0; at < list.length; at += 1) {
    const code = list[at];
    if (code === 0) Object.assign(style, { bold: false, dim: false, italic: false, underline: false, front: -1, back: -1 });
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code >= 30 && code <= 37) style.front = code - 30;
    else if (code >= 90 && code <= 97) style.front = code - 90;
    else if (code === 39) style.front = -1;
    else if (code >= 40 && code <= 47) style.back = code - 40;
    else if (code >= 100 && code <= 107) style.back = code - 100;
    else if (code === 49) style.back = -1;
    else if (code === 38 || code === 48) {
      // 256 colours and RGB are brought to the eight of the theme, which keep their contrast.
      const colour = list[at + 1] === 5 ? palette(list[at + 2]) : nearest(list[at + 2], list[at + 3], list[at + 4]);
      if (code === 38) style.front = colour;
      else style.back = colour;
      at += list[at + 1] === 5 ? 2 : 4;
    }
  }
}

/** @param {number} index of the 256-colour palette */
function palette(index) {
  if (index < 16) return index % 8;
  if (index >= 232) return index < 244 ? 0 : 7;
  const cube = index - 16;
  return nearest(Math.floor(cube / 36) * 51, (Math.floor(cube / 6) % 6) * 51, (cube % 6) * 51);
}

/** @param {number} red @param {number} green @param {number} blue 0..255 */
function nearest(red, green, blue) {
  const bright = Math.max(red, green, blue);
  if (!bright) return 0;
  const high = (/** @type {number} */ value) => (value > bright * 0.6 ? 1 : 0);
  return high(red) + 2 * high(green) + 4 * high(blue);
}

/** @param {{bold: boolean, dim: boolean, italic: boolean, underline: boolean, front: number, back: number}} style */
function classes(style) {
  const names = [];
  if (style.bold) names.push("ansi-b");
  if (style.dim) names.push("ansi-d");
  if (style.italic) names.push("ansi-i");
  if (style.underline) names.push("ansi-u");
  if (style.front >= 0) names.push(`ansi-f${style.front}`);
  if (style.back >= 0) names.push(`ansi-g${style.back}`);
  return names.join(" ");
}
