// @ts-check
/** Short notices for what the page itself does not show. Errors stay until dismissed. */

import { element, find, icon } from "./dom.js";

const STAY = 5000;

/**
 * @param {string} text @param {{kind?: "info"|"success"|"danger", hint?: string}} [options]
 */
export function toast(text, { kind = "info", hint = "" } = {}) {
  const region = find("#toasts");
  if (!region) return;
  const close = element("button", { type: "button", class: "icon-button", "aria-label": "Dismiss" }, icon("close"));
  const body = element("div", {}, element("p", {}, text), ...(hint ? [element("p", { class: "hint" }, hint)] : []));
  const picture = icon(kind === "danger" ? "danger" : kind === "success" ? "check" : "info");
  const box = element("div", { class: `toast ${kind}`, role: kind === "danger" ? "alert" : null }, picture, body, close);
  close.addEventListener("click", () => box.remove());
  region.append(box);
  if (kind !== "danger") setTimeout(() => box.remove(), STAY);
}

/** @param {unknown} error */
export function toastError(error) {
  const known = /** @type {{message?: string, hint?: string}} */ (error);
  toast(known.message ?? String(error), { kind: "danger", hint: known.hint ?? "" });
}
