// @ts-check
/** `<command-palette>`: find anything and go there, from the keyboard (Ctrl-K or /). */

import { openDialog } from "../dialogs.js";
import { element, find, findAll, icon, throttled } from "../dom.js";

/** @typedef {{label: string, detail: string, url: string, icon: string, dialog?: string}} Hit */

class CommandPalette extends HTMLElement {
  /** @type {HTMLInputElement|null} */
  #input = null;
  /** @type {Hit[]} */
  #actions = [];
  #asked = 0;

  connectedCallback() {
    this.#input = this.querySelector("input");
    const template = this.querySelector("template");
    this.#actions = [...(template?.content.querySelectorAll("a") ?? [])].map((link) => ({
      label: link.textContent ?? "",
      detail: "",
      url: link.getAttribute("href") ?? "/",
      icon: link.dataset.icon ?? "chevron-right",
      dialog: link.dataset.dialog,
    }));
    const search = throttled(() => this.#search(), 120);
    this.#input?.addEventListener("input", search);
    this.#input?.addEventListener("keydown", (event) => this.#key(event));
    this.addEventListener("click", (event) => {
      const hit = event.target instanceof Element ? event.target.closest(".hit") : null;
      if (hit instanceof HTMLElement && hit.dataset.dialogUrl) {
        event.preventDefault();
        this.#close();
        openDialog(hit.dataset.dialogUrl);
      } else if (hit) this.#close();
    });
    document.addEventListener("keydown", this.#open);
    document.addEventListener("click", this.#clicked);
  }

  disconnectedCallback() {
    document.removeEventListener("keydown", this.#open);
    document.removeEventListener("click", this.#clicked);
  }

  /** @param {KeyboardEvent} event */
  #open = (event) => {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select, [contenteditable]");
    const asked = (event.key === "k" && (event.ctrlKey || event.metaKey)) || (event.key === "/" && !typing);
    if (!asked || find("dialog[open]")) return;
    event.preventDefault();
    this.#show();
  };

  /** @param {MouseEvent} event */
  #clicked = (event) => {
    const target = event.target;
    if (!(target instanceof Element)) return;
    if (target.closest("[data-palette-open]")) this.#show();
    else if (target.id === "palette") this.#close();
  };

  #dialog() {
    return /** @type {HTMLDialogElement|null} */ (this.closest("dialog"));
  }

  #show() {
    this.#dialog()?.showModal();
    if (this.#input) this.#input.value = "";
    this.#input?.focus();
    this.#search();
  }

  #close() {
    this.#dialog()?.close();
  }

  async #search() {
    const query = this.#input?.value.trim() ?? "";
    const actions = this.#actions.filter((action) => action.label.toLowerCase().includes(query.toLowerCase()));
    if (!query) {
      this.#draw([{ title: "Actions", items: actions }]);
      return;
    }
    this.#asked += 1;
    const asked = this.#asked;
    /** @type {{title: string, items: Hit[]}[]} */
    let groups = [];
    try {
      const response = await fetch(`${this.dataset.url}?q=${encodeURIComponent(query)}`, { credentials: "same-origin" });
      groups = (await response.json()).groups;
    } catch {
      groups = [];
    }
    if (asked !== this.#asked) return;
    this.#draw([...groups, ...(actions.length ? [{ title: "Actions", items: actions }] : [])]);
  }

  /** @param {{title: string, items: Hit[]}[]} groups */
  #draw(groups) {
    const list = this.querySelector(".hits");
    if (!list) return;
    let number = 0;
    list.replaceChildren(...groups.map((group) => {
      const title = element("h3", { role: "presentation" }, group.title);
      const items = group.items.map((item) => {
        number += 1;
        const parts = [icon(item.icon, "small"), element("span", {}, item.label)];
        if (item.detail) parts.push(element("span", { class: "detail" }, item.detail));
        return element("a", { class: "hit", role: "option", id: `hit-${number}`, href: item.url, tabindex: "-1", "data-dialog-url": item.dialog, "aria-selected": "false" }, ...parts);
      });
      return element("div", { role: "group", "aria-label": group.title }, title, ...items);
    }));
    if (!number) list.append(element("p", { class: "log-empty" }, "Nothing found."));
    this.#select(0);
  }

  /** @param {number} index */
  #select(index) {
    const hits = findAll(".hit", this);
    hits.forEach((hit, position) => hit.setAttribute("aria-selected", String(position === index)));
    const hit = hits[index];
    if (hit) this.#input?.setAttribute("aria-activedescendant", hit.id);
    else this.#input?.removeAttribute("aria-activedescendant");
    hit?.scrollIntoView({ block: "nearest" });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const hits = findAll(".hit", this);
    const present = hits.findIndex((hit) => hit.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (hits.length) this.#select((present + step + hits.length) % hits.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const hit = hits[present];
      if (!hit) return;
      if (hit.dataset.dialogUrl) hit.click();
      else location.assign(/** @type {HTMLAnchorElement} */ (hit).href);
    }
  }
}

customElements.define("command-palette", CommandPalette);
