// @ts-check
/**
 * `<file-browser data-id data-path data-mounts>`: a directory of a container. Directories are links of the page, so
 * that going back, opening in a new tab and coming again work as everywhere.
 */

import { api, ApiError, upload } from "../api.js";
import { element, icon } from "../dom.js";
import { ask } from "../dialogs.js";
import { bytes, wellFormed } from "../format.js";
import { tarOf } from "../tar.js";
import { mark } from "./change-list.js";
import { showFile } from "./file-view.js";

/**
 * @typedef {{name: string, kind: string, size: number, mode: number, uid: number, gid: number, user: string, group: string, mtime: number, link_target: string, leads_to: string, change: string}} Entry
 * @typedef {{path: string, in_layer: boolean, entries: Entry[], deleted: string[], more: boolean}} Listing
 * @typedef {{target: string, type: string, source: string}} Mount
 */

const ORDER = new Intl.Collator(undefined, { numeric: true });
const HEADS = ["Name", "Size", "Mode", "Owner", "Modified", ""];
const LETTERS = /** @type {Record<string, string>} */ ({ directory: "d", link: "l", pipe: "p", socket: "s", device: "c" });
const SPECIAL = /** @type {Record<string, string>} */ ({ pipe: "pipe", socket: "socket", device: "device" });
const PICTURES = /** @type {Record<string, string>} */ ({ directory: "folder", link: "file-link" });

class FileBrowser extends HTMLElement {
  #body = element("tbody");
  #note = element("p", { class: "soft", role: "status", "data-testid": "files-note" }, "Reading…");
  #problem = element("div", { class: "notice danger", role: "alert", hidden: true });
  #place = element("nav", { class: "breadcrumb mono", "aria-label": "Directory" });
  #wrap = element("div", { class: "table-wrap", hidden: true });
  #more = element("button", { type: "button", class: "button", hidden: true }, "Show more");
  #bar = element("div", { class: "upload-progress", hidden: true }, element("span", { class: "bar" }, element("span")), element("span", { class: "small-text soft" }));
  #choose = /** @type {HTMLInputElement} */ (element("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to upload" }));
  #actions = element("div", { class: "actions" });
  /** What has just been done here, to be said with what is here now. */
  #done = "";
  /** @type {Listing} */
  #listing = { path: "/", in_layer: true, entries: [], deleted: [], more: false };

  connectedCallback() {
    if (this.firstChild) return;
    this.#listing.path = this.dataset.path || "/";
    const heads = HEADS.map((text) => element("th", { scope: "col", class: text === "Size" ? "number" : null }, text || element("span", { class: "visually-hidden" }, "Actions")));
    const caption = element("caption", { class: "visually-hidden" }, "What is in the directory");
    this.#wrap.append(element("table", { class: "table cards files" }, caption, element("thead", {}, element("tr", {}, ...heads)), this.#body));
    this.#more.addEventListener("click", () => this.#load(this.#listing.entries.at(-1)?.name));
    this.#choose.addEventListener("change", () => {
      this.#send([...(this.#choose.files ?? [])]);
      this.#choose.value = "";
    });
    this.append(
      element("div", { class: "section-head files-head" }, element("h2", { class: "visually-hidden" }, "Files"), this.#place, this.#actions),
      this.#problem, this.#bar, this.#note, this.#wrap, this.#more, this.#choose,
    );
    this.#drop();
    this.#load();
  }

  /** @param {string} [after] go on behind this name */
  async #load(after) {
    this.#more.setAttribute("aria-busy", "true");
    try {
      const path = after === undefined ? this.dataset.path || "/" : this.#listing.path;
      const query = new URLSearchParams({ path, after: after ?? "" });
      /** @type {Listing} */
      const found = await api("GET", `${this.#api}/files?${query}`);
      this.#listing = after === undefined ? found : { ...this.#listing, entries: [...this.#listing.entries, ...found.entries], more: found.more };
      this.#draw();
    } catch (error) {
      this.#fail(error);
      this.#note.textContent = "";
      this.#where();
      if (!this.#wrap.hidden) return;
      // There is nothing to put files into, or to take.
      for (const action of this.#actions.querySelectorAll(".button")) action.remove();
    } finally {
      this.#more.removeAttribute("aria-busy");
    }
  }

  get #api() {
    return `/api/v1/containers/${this.dataset.id}`;
  }

  #draw() {
    const { entries, deleted, more } = this.#listing;
    const first = (/** @type {Entry} */ entry) => (entry.kind === "directory" || entry.leads_to === "directory" ? 0 : 1);
    const sorted = [...entries].sort((one, other) => first(one) - first(other) || ORDER.compare(one.name, other.name));
    this.#body.replaceChildren(...sorted.map((entry) => this.#line(entry)), ...deleted.map(gone));
    this.#wrap.hidden = !entries.length && !deleted.length;
    this.#more.hidden = !more;
    this.#where();
    this.#note.textContent = `${this.#done}${this.#counted()} ${this.#fate()}`;
    this.#done = "";
    // Links made here are links of the shell like any other.
    const shell = /** @type {{htmx?: {process: (node: Element) => void}}} */ (/** @type {unknown} */ (window)).htmx;
    shell?.process(this);
  }

  /** How many names there are. */
  #counted() {
    const { entries, more } = this.#listing;
    const count = `${entries.length} ${entries.length === 1 ? "name" : "names"}${more ? " and more" : ""}.`;
    return entries.length ? count : "Nothing is in it.";
  }

  /** What becomes of what is written here. */
  #fate() {
    const { path, in_layer: inLayer } = this.#listing;
    if (inLayer) return "In no volume: removing the container deletes what it has added and changed here.";
    /** @type {Mount[]} */
    const mounts = JSON.parse(this.dataset.mounts || "[]");
    const over = mounts.filter((each) => path === each.target || path.startsWith(`${each.target}/`));
    const mount = over.sort((one, other) => other.target.length - one.target.length)[0];
    if (mount?.type === "volume") return `In volume ${mount.source}: it stays when the container is removed.`;
    if (mount?.type === "bind") return `In ${mount.source} of the host: it stays when the container is removed.`;
    if (mount?.type === "tmpfs") return "In memory: it is gone when the container stops.";
    return "On a file system of its own, made when the container starts.";
  }

  /** The way from the root, and what can be done here. */
  #where() {
    const parts = this.#listing.path.split("/").filter(Boolean);
    const steps = parts.map((name, index) => ({ name, path: `/${parts.slice(0, index + 1).join("/")}` }));
    const links = [{ name: "/", path: "/" }, ...steps].map(({ name, path }, index) => {
      const last = index === parts.length;
      return element("li", {}, element("a", { href: place(path), "aria-current": last ? "page" : null }, name));
    });
    this.#place.replaceChildren(element("ol", {}, ...links));
    const send = element("button", { type: "button", class: "button", "data-testid": "upload" }, icon("import"), "Upload");
    send.addEventListener("click", () => this.#choose.click());
    const again = element("button", { type: "button", class: "icon-button", "aria-label": "Refresh", title: "Refresh" }, icon("restart"));
    again.addEventListener("click", () => {
      this.#problem.hidden = true;
      this.#load();
    });
    const whole = element("a", { class: "button", href: this.#archive(this.#listing.path), download: true, "hx-boost": "false" }, icon("download"), "Download");
    this.#actions.replaceChildren(send, whole, again);
  }

  /** @param {string} path of a directory, whose tar is downloaded */
  #archive(path) {
    return `${this.#api}/archive?path=${encodeURIComponent(path)}`;
  }

  /** @param {Entry} entry */
  #line(entry) {
    const leads = entry.kind === "link" ? entry.leads_to : entry.kind;
    const path = below(this.#listing.path, entry.name);
    // A name that is no UTF-8 cannot be said in an address.
    const can = entry.name === wellFormed(entry.name);
    const shown = wellFormed(entry.name);
    /** @type {Node|string} */
    let name = shown;
    const actions = element("td", { class: "row-actions" });
    if (can && leads === "directory") {
      name = element("a", { href: place(path) }, shown);
      actions.append(save(`${this.#archive(`${path}/`)}`, shown));
    } else if (can && leads === "file") {
      const view = element("button", { type: "button", class: "link" }, shown);
      const url = `${this.#api}/files/content?path=${encodeURIComponent(path)}`;
      view.addEventListener("click", () => showFile(path, url));
      name = view;
      actions.append(save(url, shown));
    }
    const title = element("th", { scope: "row", class: "name wide" }, element("span", { class: "file-cell" }, icon(PICTURES[entry.kind] ?? "file", leads === "directory" ? "small folder" : "small"), element("span", { class: "file-name" }, name, ...aside(entry)), ...(entry.change ? [mark(entry.change)] : [])));
    const owner = `${entry.user || entry.uid}:${entry.group || entry.gid}`;
    return element(
      "tr", { "data-testid": "file", "data-name": shown },
      title,
      element("td", { class: entry.kind === "file" ? "number" : "number blank", "data-label": "Size" }, entry.kind === "file" ? bytes(entry.size) : ""),
      element("td", { class: "nowrap", "data-label": "Mode", title: (entry.mode & 0o7777).toString(8).padStart(4, "0") }, element("code", {}, modeText(entry))),
      element("td", { class: "nowrap", "data-label": "Owner", title: `${entry.uid}:${entry.gid}` }, owner),
      element("td", { class: "nowrap faint", "data-label": "Modified" }, element("relative-time", { datetime: new Date(entry.mtime * 1000).toISOString() })),
      actions,
    );
  }

  // -- uploads ---------------------------------------------------------------------------------

  #drop() {
    for (const type of ["dragenter", "dragover"]) {
      this.addEventListener(type, (event) => {
        if (!(event instanceof DragEvent) || !event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        this.dataset.over = "true";
      });
    }
    for (const type of ["dragleave", "drop"]) this.addEventListener(type, () => delete this.dataset.over);
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#send([...(event.dataTransfer?.files ?? [])]);
    });
  }

  /** @param {File[]} files */
  async #send(files) {
    if (!files.length) return;
    const names = new Set(this.#listing.entries.map((entry) => entry.name));
    const taken = files.filter((file) => names.has(file.name)).map((file) => file.name);
    if (taken.length) {
      const title = taken.length === 1 ? `Replace ${taken[0]}?` : `Replace ${taken.length} files?`;
      const what = `${taken.slice(0, 5).join(", ")}${taken.length > 5 ? " and more" : ""}: what is there now is lost.`;
      if (!(await ask(title, what, "Replace"))) return;
    }
    const [bar, text] = this.#bar.children;
    const fill = /** @type {HTMLElement} */ (bar.firstElementChild);
    this.#problem.hidden = true;
    this.#bar.hidden = false;
    try {
      const query = new URLSearchParams({ path: this.#listing.path, noOverwriteDirNonDir: "true" });
      const done = await upload(`${this.#api}/archive?${query}`, tarOf(files), (sent, total) => {
        fill.style.width = `${total ? (sent / total) * 100 : 0}%`;
        text.textContent = `${bytes(sent)} of ${bytes(total)} sent`;
      }, "PUT");
      this.#done = `Uploaded ${done.members === 1 ? files[0].name : `${done.members} files`}. `;
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#bar.hidden = true;
      await this.#load();
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    const known = error instanceof ApiError;
    const stays = known ? /** @type {{members: number}|undefined} */ (error.extra.written) : undefined;
    const why = [known ? error.hint : "", stays ? `${stays.members} of the files are there.` : ""].join(" ").trim();
    this.#problem.replaceChildren(icon("danger"), element("div", {}, element("p", {}, element("strong", {}, error instanceof Error ? error.message : String(error))), ...(why ? [element("p", { class: "why" }, why)] : [])));
    this.#problem.hidden = false;
  }
}

/** The page of a directory. @param {string} path */
function place(path) {
  return `?tab=files&path=${encodeURIComponent(wellFormed(path))}`;
}

/** @param {string} directory @param {string} name */
function below(directory, name) {
  return `${directory === "/" ? "" : directory}/${name}`;
}

/** @param {string} url @param {string} name */
function save(url, name) {
  return element("a", { class: "icon-button", href: url, download: true, "hx-boost": "false", "aria-label": `Download ${name}`, title: "Download" }, icon("download"));
}

/** What a name says beside itself. @param {Entry} entry @returns {Node[]} */
function aside(entry) {
  if (entry.kind === "link") return [element("span", { class: "faint" }, ` → ${wellFormed(entry.link_target)}${entry.leads_to ? "" : ", which is not there"}`)];
  return SPECIAL[entry.kind] ? [element("span", { class: "faint" }, ` ${SPECIAL[entry.kind]}`)] : [];
}

/** As `ls -l` writes it. @param {Entry} entry */
function modeText({ kind, mode }) {
  const bits = [...Array(9).keys()].map((index) => (mode & (0o400 >> index) ? "rwx"[index % 3] : "-"));
  for (const [bit, index, letter] of /** @type {[number, number, string][]} */ ([[0o4000, 2, "s"], [0o2000, 5, "s"], [0o1000, 8, "t"]])) {
    if (mode & bit) bits[index] = bits[index] === "x" ? letter : letter.toUpperCase();
  }
  return (LETTERS[kind] ?? "-") + bits.join("");
}

/** A name that only the image has now. @param {string} name */
function gone(name) {
  const title = element("span", { class: "file-cell" }, icon("file", "small"), element("del", { class: "file-name faint" }, wellFormed(name)), mark("deleted"));
  const blanks = HEADS.slice(1).map(() => element("td", { class: "blank" }));
  return element("tr", { "data-testid": "file", "data-name": name }, element("th", { scope: "row", class: "name wide" }, title), ...blanks);
}

customElements.define("file-browser", FileBrowser);
