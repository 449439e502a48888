// @ts-check
/**
 * The options of a container that the form offers beyond the everyday ones. Each field says where it
 * belongs in the request (`data-option`, dotted), what it is (`data-kind`) and how `docker run` calls it
 * (`data-flag`); see webui/containers/fields.py.
 */

import { find, findAll } from "./dom.js";

/** @typedef {HTMLInputElement|HTMLSelectElement|HTMLTextAreaElement} Control */

/** @param {ParentNode} form @returns {Control[]} */
function controls(form) {
  return /** @type {Control[]} */ (findAll("[data-option]", form));
}

/** Text as one writes it on a command line. @param {string} word */
export function quote(word) {
  return word && /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}

/** @param {string} text */
function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

/** What a field says; undefined when it says nothing. @param {Control} control @returns {any} */
function valueOf(control) {
  const text = control.value.trim();
  switch (control.dataset.kind) {
    case "check":
      return /** @type {HTMLInputElement} */ (control).checked || undefined;
    case "lines":
      // For the lists whose absence means "the usual ones".
      if (/^none$/i.test(text) && /_paths$/.test(control.dataset.option ?? "")) return [];
      return text ? lines(text) : undefined;
    case "number":
      if (!text) return undefined;
      return Number.isNaN(Number(text)) ? text : Number(text);
    case "choice":
      return text === "true" || text === "false" ? text === "true" : text || undefined;
    default:
      return text || undefined;
  }
}

/** Put every option that says something into a request. @param {ParentNode} form @param {Record<string, any>} body */
export function addOptions(form, body) {
  for (const control of controls(form)) {
    const value = valueOf(control);
    if (value === undefined) continue;
    const path = (control.dataset.option ?? "").split(".");
    const last = path.pop() ?? "";
    let holder = body;
    for (const name of path) holder = holder[name] ??= {};
    holder[last] = value;
  }
}

/** Show what a request says. @param {ParentNode} form @param {Record<string, any>} request */
export function fillOptions(form, request) {
  for (const control of controls(form)) {
    const value = (control.dataset.option ?? "").split(".").reduce((/** @type {any} */ at, name) => at?.[name], request);
    if (value === undefined || value === null) continue;
    if (control instanceof HTMLInputElement && control.type === "checkbox") control.checked = Boolean(value);
    else control.value = textOf(value, control.dataset.kind ?? "", /_bps$|hugetlb/.test(control.dataset.option ?? ""));
  }
}

/** @param {any} value @param {string} kind @param {boolean} sizes the values of a table are bytes */
function textOf(value, kind, sizes) {
  // A command in words, such as that of a health check, is one line of a shell as well.
  if (Array.isArray(value) && kind === "text") return value.map(quote).join(" ");
  if (Array.isArray(value)) return value.length ? value.join("\n") : "none";
  if (kind === "size") return sizeText(value);
  if (typeof value === "object") return Object.entries(value).map(([name, each]) => `${name}${kind === "pairs" ? "=" : ":"}${sizes ? sizeText(each) : each}`).join("\n");
  return String(value);
}

/** Bytes as people type them: 536870912 → "512m". @param {number|string} value */
export function sizeText(value) {
  for (const [letter, unit] of /** @type {[string, number][]} */ ([["g", 1024 ** 3], ["m", 1024 ** 2], ["k", 1024]])) {
    if (typeof value === "number" && value > 0 && value % unit === 0) return `${value / unit}${letter}`;
  }
  return String(value);
}

/** The words of `docker run` for what is set. @param {ParentNode} form @returns {string[]} */
export function optionFlags(form) {
  return controls(form).flatMap((control) => {
    const value = valueOf(control);
    const flag = control.dataset.flag ?? "";
    if (value === undefined || value === false || !flag) return [];
    if (value === true) return [flag];
    if (flag.endsWith("-file")) return [`${flag} FILE`];
    if (control.dataset.kind === "json" && String(value).startsWith("{")) return [`${flag}profile.json`];
    const each = control.dataset.kind === "pairs" ? lines(value).filter((line) => !line.startsWith("#")) : [value].flat();
    return each.map((/** @type {any} */ text) => `${flag}${flag.endsWith("=") ? "" : " "}${quote(colon(flag, String(text)))}`);
  });
}

/** `--add-host` alone wants a colon. @param {string} flag @param {string} text */
function colon(flag, text) {
  return flag === "--add-host" ? text.replace("=", ":") : text;
}

/** Say on each closed section what in it is set. @param {ParentNode} form */
export function showWhatIsSet(form) {
  for (const fold of findAll("details[data-fold]", form)) {
    const named = findAll("[data-said]", fold).filter((field) => /** @type {Control} */ (field).value.trim()).map((field) => field.dataset.said ?? "");
    const set = controls(fold).filter((control) => valueOf(control) !== undefined);
    // A section of one field says what is in it.
    const alone = controls(fold).length === 1 && set[0] ? [lines(set[0].value).filter((line) => !line.startsWith("#")).join(", ")] : null;
    const all = alone ?? [...named, ...set.map(labelOf)];
    const holder = find("[data-fold-set]", fold);
    const help = find("[data-fold-help]", fold);
    if (holder) {
      holder.hidden = !all.length;
      holder.textContent = all.join(", ");
    }
    if (help) help.hidden = all.length > 0;
  }
}

/** @param {Control} control */
function labelOf(control) {
  return control.labels?.[0]?.textContent?.trim() ?? "";
}

/** "Take it from a file": its text goes into the field. */
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-fill]") : null;
  if (!(button instanceof HTMLElement)) return;
  const chooser = button.parentElement && find("input[type=file]", button.parentElement);
  const field = document.getElementById(button.dataset.fill ?? "");
  if (!(chooser instanceof HTMLInputElement) || !(field instanceof HTMLTextAreaElement)) return;
  chooser.onchange = async () => {
    const file = chooser.files?.[0];
    if (!file) return;
    field.value = await file.text();
    chooser.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  };
  chooser.click();
});
