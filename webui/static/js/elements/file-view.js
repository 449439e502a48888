// @ts-check
/** A file of a container in a dialog: its first part as text, or that it is none. */

import { toastError } from "../toasts.js";
import { element } from "../dom.js";
import { showMessage } from "../dialogs.js";
import { bytes } from "../format.js";
import { apiBytes } from "../api.js";

const MOST = 256 * 1024; // bytes that are read

/** @param {string} path in the container @param {string} url of its content */
export async function showFile(path, url) {
  try {
    const { data, header } = await apiBytes(`${url}&limit=${MOST}`);
    const { size } = JSON.parse(atob(header("X-Slipway-Path-Stat") || "e30="));
    const part = data.length === MOST && size > MOST;
    const how = part ? `The first ${bytes(MOST)} of ${bytes(size)}.` : `${bytes(data.length)}.`;
    const note = element("p", {}, `${how} `, element("a", { href: url, download: true, class: "link" }, "Download it"));
    const name = path.split("/").pop() ?? path;
    if (data.includes(0)) {
      showMessage(name, note, element("p", { "data-testid": "file-binary" }, "It holds bytes that are no text."));
      return;
    }
    const text = new TextDecoder().decode(data, { stream: part });
    showMessage(name, note, element("pre", { class: "json mono file-text", tabindex: "0", "aria-label": path, "data-testid": "file-text" }, text || "It is empty."));
  } catch (error) {
    toastError(error);
  }
}
