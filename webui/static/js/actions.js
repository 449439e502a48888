// @ts-check
/**
 * Buttons that do one thing: `data-action` on a container, `data-post` / `data-delete` of a URL,
 * `data-send` (a method) of `data-url` with `data-body` (JSON).
 * The page shows the outcome by itself (a live row, a region), so success says nothing more.
 */

import { api } from "./api.js";
import { ask } from "./dialogs.js";
import { after } from "./forms.js";
import { toastError } from "./toasts.js";

/**
 * @param {HTMLElement} button @param {string} method @param {string} url @param {string} then
 * @param {unknown} [body] sent as JSON
 */
async function run(button, method, url, then, body = method === "POST" ? {} : undefined) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await api(method, url, body);
    if (answer?.kind) document.dispatchEvent(new CustomEvent("slipway:operation", { detail: answer }));
    await after(then, answer);
  } catch (error) {
    toastError(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", async (event) => {
  const target = event.target instanceof Element ? event.target.closest("[data-action], [data-post], [data-delete], [data-send]") : null;
  if (!(target instanceof HTMLElement)) return;
  const { action, container, post, delete: remove, confirm, send, url = "", body = "{}", then = "" } = target.dataset;
  if (action && container) {
    await run(target, "POST", `/api/v1/containers/${container}/${action}`, then);
  } else if (post) {
    await run(target, "POST", post, then);
  } else if (send) {
    await run(target, send, url, then, JSON.parse(body));
  } else if (remove) {
    if (!confirm || (await ask("Are you sure?", confirm, target.textContent?.trim() ?? "Remove"))) {
      await run(target, "DELETE", remove, then);
    }
  }
});
