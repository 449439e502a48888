// @ts-check
/**
 * A tar of files that somebody chose, as one Blob: the browser reads each file when it is sent, and holds none.
 * POSIX pax: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
 */

const BLOCK = 512;
const LARGEST = 8 ** 11; // bytes that a header's own field can say
const encoder = new TextEncoder();

/** @param {Iterable<File>} files @returns {Blob} */
export function tarOf(files) {
  /** @type {BlobPart[]} */
  const parts = [];
  for (const file of files) {
    const name = encoder.encode(file.name);
    const records = [];
    if (name.length > 100 || name.some((byte) => byte > 126)) records.push(record("path", file.name));
    if (file.size >= LARGEST) records.push(record("size", String(file.size)));
    const mtime = Math.floor(file.lastModified / 1000);
    if (records.length) {
      const extended = encoder.encode(records.join(""));
      parts.push(header(encoder.encode("pax"), extended.length, mtime, "x"), extended, padding(extended.length));
    }
    parts.push(header(name.slice(0, 100), Math.min(file.size, LARGEST - 1), mtime, "0"), file, padding(file.size));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: "application/x-tar" });
}

/** A pax record holds its own length. @param {string} key @param {string} value */
function record(key, value) {
  const rest = encoder.encode(` ${key}=${value}\n`).length;
  let length = rest + 1;
  while (String(length).length + rest !== length) length = String(length).length + rest;
  return `${length} ${key}=${value}\n`;
}

/** @param {number} size */
function padding(size) {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

/** @param {Uint8Array} name @param {number} size @param {number} mtime Unix seconds @param {string} kind */
function header(name, size, mtime, kind) {
  const block = new Uint8Array(BLOCK);
  /** @param {number} at @param {string} text */
  const put = (at, text) => block.set(encoder.encode(text), at);
  /** @param {number} at @param {number} digits @param {number} value */
  const octal = (at, digits, value) => put(at, value.toString(8).padStart(digits, "0"));
  block.set(name, 0);
  octal(100, 7, 0o644);
  octal(108, 7, 0);
  octal(116, 7, 0);
  octal(124, 11, size);
  octal(136, 11, Math.max(0, mtime));
  put(148, "        "); // the sum is made with blanks in its place
  put(156, kind);
  put(257, "ustar");
  put(263, "00");
  octal(148, 6, block.reduce((sum, byte) => sum + byte, 0));
  block[154] = 0;
  return block;
}
