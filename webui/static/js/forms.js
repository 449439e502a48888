// @ts-check
/**
 * Forms that speak to the REST API. A form says where (`data-api-method`, `data-api-url`) and what
 * comes after (`data-then`); its fields become JSON; an error is shown at the field it names, and
 * nothing that was typed is lost.
 *
 *   data-then   close | refresh | watch (show the operation) | goto:URL | gone:URL (leave, when the
 *               object had a page of its own) | token (show a secret once)
 *   data-type   number | boolean | words (a list), for a field's JSON; data-empty: omit | null
 *   data-in-url its value takes the place of {name} in the form's URL
 */

import { api, ApiError, upload } from "./api.js";
import { announce, element, find, findAll } from "./dom.js";
import { closeDialog, showMessage } from "./dialogs.js";
import { bytes } from "./format.js";
import { refresh } from "./regions.js";
import { toast } from "./toasts.js";

let serial = 0;

/** Take away every error of a form. @param {HTMLElement} form */
export function clearErrors(form) {
  for (const node of findAll(".field-error", form)) node.remove();
  for (const node of findAll("[aria-invalid]", form)) {
    node.removeAttribute("aria-invalid");
    node.removeAttribute("aria-describedby");
  }
  const general = find("[data-form-error]", form);
  if (general) general.hidden = true;
}

/**
 * The element that a field's dotted path means: "ports[0].host_port" → row 0 of `ports`;
 * "limits.memory" → that field, else `limits`.
 * @param {HTMLElement} form @param {string} path @returns {{holder: HTMLElement, input: HTMLElement|null}|null}
 */
function locate(form, path) {
  const indexed = /^(\w+)[[.](\d+)\]?\.?(\w*)/.exec(path);
  if (indexed) {
    const holder = find(`[data-field="${indexed[1] === "volumes" ? "mounts" : indexed[1]}"]`, form);
    const row = holder && findAll("[data-row]", holder)[Number(indexed[2])];
    if (holder && row) {
      const wanted = indexed[3] && find(`[name$="${indexed[3]}"]`, row);
      return { holder, input: wanted || find("[data-primary]", row) || find("input", row) };
    }
  }
  const aliases = [path, path.replace(/^spec\./, ""), path.replace(/^process\./, ""), path.replace(/\.name$/, "")];
  aliases.push(path.split(".").pop() ?? path, path.split(/[.[]/)[0]);
  for (const alias of aliases) {
    const holder = find(`[data-field="${CSS.escape(alias)}"], [data-field$=".${CSS.escape(alias)}"]`, form);
    if (holder) return { holder, input: find("input, select, textarea", holder) };
    const input = find(`[name="${CSS.escape(alias)}"]`, form);
    if (input) return { holder: input.closest("[data-field]") ?? input.parentElement ?? form, input };
  }
  return null;
}

/** Show an error where it belongs. @param {HTMLElement} form @param {unknown} problem */
export function showError(form, problem) {
  clearErrors(form);
  const error = problem instanceof ApiError ? problem : new ApiError("error", String(problem), {}, 0);
  const place = error.field ? locate(form, error.field) : null;
  if (place) {
    serial += 1;
    const id = `field-error-${serial}`;
    const text = element("p", { class: "field-error", id, role: "alert" }, error.message);
    if (error.hint) text.append(" ", element("span", { class: "hint" }, error.hint));
    place.holder.append(text);
    for (let folded = (place.input ?? place.holder).closest("details"); folded; folded = folded.parentElement?.closest("details") ?? null) folded.open = true;
    place.input?.setAttribute("aria-invalid", "true");
    place.input?.setAttribute("aria-describedby", id);
    place.input?.focus();
    return;
  }
  const general = find("[data-form-error]", form);
  if (!general) {
    toast(error.message, { kind: "danger", hint: error.hint });
    return;
  }
  general.hidden = false;
  const title = find("[data-form-error-title]", general);
  const hint = find("[data-form-error-hint]", general);
  if (title) title.textContent = error.message;
  if (hint) hint.textContent = error.hint;
  general.scrollIntoView({ block: "nearest" });
}

/** A form's fields as JSON; dotted names nest. @param {HTMLFormElement} form */
export function values(form) {
  /** @type {Record<string, any>} */
  const result = {};
  for (const field of form.elements) {
    if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement || field instanceof HTMLTextAreaElement)) continue;
    if (!field.name || field.disabled || field.type === "file" || "inUrl" in field.dataset) continue;
    const value = fieldValue(field);
    if (value === undefined) continue;
    const path = field.name.split(".");
    const last = path.pop() ?? field.name;
    let holder = result;
    for (const key of path) holder = holder[key] ??= {};
    holder[last] = value;
  }
  return result;
}

/** @param {HTMLInputElement|HTMLSelectElement|HTMLTextAreaElement} field */
function fieldValue(field) {
  if (field instanceof HTMLInputElement && field.type === "checkbox") return field.checked;
  const text = field.type === "password" ? field.value : field.value.trim();
  if (text === "" && field.dataset.empty === "omit") return undefined;
  if (text === "" && field.dataset.empty === "null") return null;
  if (field.dataset.type === "words") return text.split(/[\s,]+/).filter(Boolean);
  if (field.dataset.type === "number") return Number.isNaN(Number(text)) ? text : Number(text);
  return text;
}

/** @param {HTMLFormElement} form @param {HTMLElement|null} button */
async function submit(form, button) {
  const { apiMethod = "POST", apiUrl = "", then = "" } = form.dataset;
  for (const field of form.elements) {
    if (field instanceof HTMLInputElement && field.required && !field.value) {
      showError(form, new ApiError("required", field.type === "file" ? "Choose a file." : "This is needed.", { field: field.name }, 0));
      return;
    }
  }
  clearErrors(form);
  button?.setAttribute("aria-busy", "true");
  if (button instanceof HTMLButtonElement) button.disabled = true;
  try {
    const file = /** @type {HTMLInputElement|null} */ (find("input[type=file]", form));
    const answer = file?.files?.[0]
      ? await sendFile(form, apiUrl, file.name, file.files[0])
      : await api(apiMethod, filledUrl(form, apiUrl), apiMethod === "DELETE" ? undefined : values(form));
    await after(then, answer);
  } catch (error) {
    showError(form, error);
  } finally {
    button?.removeAttribute("aria-busy");
    if (button instanceof HTMLButtonElement) button.disabled = false;
  }
}

/** @param {HTMLFormElement} form @param {string} url */
function filledUrl(form, url) {
  return url.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(new FormData(form).get(name) ?? "")));
}

/** @param {HTMLFormElement} form @param {string} url @param {string} name @param {File} file */
function sendFile(form, url, name, file) {
  const body = new FormData();
  for (const [key, value] of Object.entries(values(form))) body.append(key, String(value));
  body.append(name, file, file.name);
  const bar = find("[data-upload-bar]", form);
  const fill = bar && find("span", bar);
  const text = find("[data-upload-text]", form);
  if (bar) bar.hidden = false;
  return upload(url, body, (sent, total) => {
    const share = total ? sent / total : 0;
    if (fill) fill.style.width = `${share * 100}%`;
    if (text) {
      text.textContent = share < 1
        ? `${bytes(sent)} of ${bytes(total)} sent`
        : `${bytes(total)} sent, now checking it`;
    }
  });
}

/** What comes after success. @param {string} then @param {any} answer */
export async function after(then, answer) {
  const [what, ...rest] = then.split(":");
  const where = rest.join(":");
  if (what === "token") {
    showToken(answer);
    await refresh("tokens");
    return;
  }
  closeDialog();
  if (what === "goto") location.assign(where);
  else if (what === "refresh") await refresh("tokens");
  else if (what === "gone") {
    if (document.getElementById("main")?.dataset.page?.match(/^(container|image)$/)) location.assign(where);
  } else if (what === "watch" && answer?.id) {
    document.dispatchEvent(new CustomEvent("slipway:operation", { detail: answer }));
    announce("Started. Progress shows on this page.");
  }
}

/** The one moment a token can be read. @param {any} answer */
function showToken(answer) {
  const token = String(answer?.token ?? "");
  const copy = element("copy-button", { "data-copy": token, "data-label": "Copy the token" });
  showMessage(
    "Your new token",
    element("p", {}, "Copy it now: only its hash is kept, so it cannot be shown again."),
    element("div", { class: "command-line" }, element("code", { "data-testid": "new-token" }, token), copy),
  );
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.dataset.apiUrl) return;
  event.preventDefault();
  submit(form, event.submitter instanceof HTMLElement ? event.submitter : null);
});
