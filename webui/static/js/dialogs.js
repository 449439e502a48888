// @ts-check
/** One native dialog, filled by the server; and a plain question before something is lost. */

import { element, find, icon } from "./dom.js";
import { toast, toastError } from "./toasts.js";

/** @returns {HTMLDialogElement} */
function dialog() {
  return /** @type {HTMLDialogElement} */ (find("#dialog"));
}

/** @param {Node} content */
function show(content) {
  const holder = find("#dialog-content");
  holder?.replaceChildren(content);
  const box = dialog();
  if (!box.open) box.showModal();
  const first = find("[autofocus]", box) ?? find("input, select, textarea", box);
  first?.focus();
  if (first instanceof HTMLInputElement) first.select();
}

/** Fetch a dialog's inside from a page of this server and open it. @param {string} url */
export async function openDialog(url) {
  try {
    const response = await fetch(url, { credentials: "same-origin" });
    if (response.redirected) {
      location.reload();
      return;
    }
    if (response.status === 404) {
      toast("It is not there any more.", { kind: "danger", hint: "Somebody may have removed it." });
      return;
    }
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const content = document.createDocumentFragment();
    content.append(...[...page.body.childNodes].map((node) => document.importNode(node, true)));
    show(content);
  } catch (error) {
    toastError(error);
  }
}

export function closeDialog() {
  dialog().close();
  find("#dialog-content")?.replaceChildren();
}

/** Open the dialog with elements made here. @param {string} title @param {...Node} body */
export function showMessage(title, ...body) {
  const close = element("button", { type: "button", class: "icon-button", "data-dialog-close": true, "aria-label": "Close" }, icon("close"));
  const done = element("button", { type: "button", class: "button primary", "data-dialog-close": true }, "Done");
  show(
    element("div", {},
      element("div", { class: "dialog-head" }, element("h2", { id: "dialog-title" }, title), close),
      element("div", { class: "dialog-body" }, ...body),
      element("div", { class: "dialog-foot" }, done)),
  );
}

/**
 * A question with its consequence; resolves to true when confirmed.
 * @param {string} title @param {string} consequence @param {string} verb @returns {Promise<boolean>}
 */
export function ask(title, consequence, verb) {
  return new Promise((resolve) => {
    const cancel = element("button", { type: "button", class: "button", "data-dialog-close": true }, "Cancel");
    const confirm = element("button", { type: "button", class: "button danger-solid", "data-testid": "confirm" }, verb);
    let answer = false;
    confirm.addEventListener("click", () => {
      answer = true;
      closeDialog();
    });
    dialog().addEventListener("close", () => resolve(answer), { once: true });
    show(
      element("div", {},
        element("div", { class: "dialog-head" }, element("h2", { id: "dialog-title" }, title)),
        element("div", { class: "dialog-body" }, element("p", {}, consequence)),
        element("div", { class: "dialog-foot" }, cancel, confirm)),
    );
  });
}

document.addEventListener("click", (event) => {
  const target = event.target;
  if (!(target instanceof Element)) return;
  if (target.closest("[data-dialog-close]") || target === dialog()) closeDialog();
  const opener = target.closest("[data-dialog]");
  if (opener instanceof HTMLElement && opener.dataset.dialog) {
    event.preventDefault();
    find("details.menu[open]")?.removeAttribute("open");
    openDialog(opener.dataset.dialog);
  }
});
