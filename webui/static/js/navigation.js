// @ts-check
/** Moving between pages inside the shell: htmx swaps #main, the rest stays, the websocket too. */

import { announce, find, findAll, throttled } from "./dom.js";

/** Mark the entry of the rail that the present page belongs to. */
function markCurrent() {
  for (const link of findAll("[data-nav]")) {
    const path = link.dataset.nav ?? "";
    const here = location.pathname === path;
    const below = path !== "/" && location.pathname.startsWith(path);
    if (here || below) link.setAttribute("aria-current", here ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
}

/** On a narrow screen the tabs scroll: the present one is seen. */
function showTab() {
  find(".tabs [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

function closeRail() {
  delete document.body.dataset.rail;
  find("[data-rail-open]")?.setAttribute("aria-expanded", "false");
}

/** Filters apply as they are typed, and live in the URL. @param {HTMLFormElement} form */
function applyFilter(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (value !== "") query.set(name, String(value));
  }
  const url = `${location.pathname}${query.size ? `?${query}` : ""}`;
  history.replaceState(history.state, "", url);
  // The links of the same filter keep what was typed.
  for (const link of form.querySelectorAll("a[href^='?']")) {
    const theirs = new URLSearchParams(link.getAttribute("href") ?? "");
    for (const field of findAll("input[type=search]", form)) {
      if (!(field instanceof HTMLInputElement)) continue;
      if (field.value) theirs.set(field.name, field.value);
      else theirs.delete(field.name);
    }
    link.setAttribute("href", `?${theirs}`);
  }
  document.dispatchEvent(new CustomEvent("slipway:filter"));
}

export function startNavigation() {
  showTab();
  /** @type {HTMLFormElement|null} */
  let filtering = null;
  const filter = throttled(() => {
    if (filtering?.isConnected) applyFilter(filtering);
  }, 180);

  document.addEventListener("input", (event) => {
    const form = event.target instanceof Element ? event.target.closest("form[data-filter]") : null;
    if (form instanceof HTMLFormElement) {
      filtering = form;
      filter();
    }
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form instanceof HTMLFormElement && form.hasAttribute("data-filter")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      applyFilter(form);
    }
  }, true);

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (!(target instanceof Element)) return;
    if (target.closest("[data-rail-open]")) {
      document.body.dataset.rail = "open";
      find("[data-rail-open]")?.setAttribute("aria-expanded", "true");
      find(".rail a")?.focus();
    } else if (target.closest("[data-rail-close], .rail a")) closeRail();
    for (const menu of findAll("details.menu[open]")) {
      if (!menu.contains(target)) menu.removeAttribute("open");
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    closeRail();
    const menu = find("details.menu[open]");
    menu?.removeAttribute("open");
    if (menu) find("summary", menu)?.focus();
  });

  // A session that has ended leads to the sign-in page, which is no part of the shell.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = /** @type {CustomEvent} */ (event).detail;
    if (new URL(xhr.responseURL || location.href).pathname.startsWith("/login")) {
      event.preventDefault();
      location.assign(xhr.responseURL);
    }
  });
  // htmx: a page that is new to the eye is announced, and starts at its top.
  document.addEventListener("htmx:afterSettle", (event) => {
    const swapped = /** @type {CustomEvent} */ (event).detail?.target;
    if (!(swapped instanceof Element) || swapped.id !== "main") return;
    markCurrent();
    showTab();
    window.scrollTo(0, 0);
    find("#main")?.focus({ preventScroll: true });
    announce(document.title);
  });
  document.addEventListener("htmx:responseError", (event) => {
    const path = /** @type {CustomEvent} */ (event).detail?.pathInfo?.requestPath;
    // The server's own error page says more than a silent failure.
    if (path) location.assign(path);
  });
  document.addEventListener("htmx:sendError", () => announce("Slipway does not answer."));
}
