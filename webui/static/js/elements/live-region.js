// @ts-check
/**
 * `<live-region id data-topics="a,b">`: a part of a page that is drawn again by the server when one
 * of its topics says that something changed. `data-gone` is where to go when its object is removed;
 * `data-match` ignores messages about other objects.
 */

import { announce, findAll, throttled } from "../dom.js";
import { listen, unlisten } from "../live.js";
import { refresh } from "../regions.js";
import { toast } from "../toasts.js";

const WAIT = 250;

class LiveRegion extends HTMLElement {
  #loaded = false;
  #drawing = false;
  #changed = false;
  /** @type {Set<string>} */
  #snapshots = new Set();

  connectedCallback() {
    if (this.#loaded) return;
    this.#loaded = true;
    const again = throttled(() => this.#again(), WAIT);
    for (const topic of (this.dataset.topics ?? "").split(",").filter(Boolean)) {
      listen(this, topic, (message) => {
        if (message.type === "error") return;
        // The first snapshot is what the page was drawn from; a later one follows a lost connection.
        if (message.type === "snapshot" && !this.#snapshots.has(topic)) {
          this.#snapshots.add(topic);
          if (!this.#stale(topic, message.data)) return;
        }
        if (message.type === "gone" && this.dataset.gone && (!this.dataset.match || this.#about(message.data))) {
          this.#leave();
          return;
        }
        if (this.dataset.match && message.type !== "snapshot" && !this.#about(message.data)) return;
        again();
      });
    }
    document.addEventListener("slipway:filter", this.#filter);
  }

  disconnectedCallback() {
    this.#loaded = false;
    this.#snapshots.clear();
    unlisten(this);
    document.removeEventListener("slipway:filter", this.#filter);
  }

  #filter = () => this.#again();

  /**
   * Did something change between drawing the page and subscribing?
   * @param {string} topic @param {any} data the snapshot: one row, or rows
   */
  #stale(topic, data) {
    if (!Array.isArray(data)) return this.dataset.rev !== undefined && String(data?.revision) !== this.dataset.rev;
    if (this.dataset.partial || this.dataset.match || (this.dataset.topics ?? "").split(",")[0] !== topic) return false;
    const drawn = new Map(findAll("tr[data-id], li[data-id]", this).map((row) => [row.dataset.id, row.dataset.status]));
    return drawn.size !== data.length || data.some((row) => {
      const id = String(row.id);
      return !drawn.has(id) || (drawn.get(id) !== undefined && drawn.get(id) !== row.status);
    });
  }

  /** @param {any} data */
  #about(data) {
    return data && (data.target_id === this.dataset.match || data.id === this.dataset.match);
  }

  /** One drawing at a time: an answer that overtakes an older one would be overwritten by it. */
  async #again() {
    this.#changed = true;
    if (this.#drawing) return;
    this.#drawing = true;
    try {
      while (this.#changed) {
        this.#changed = false;
        await this.#draw();
      }
    } finally {
      this.#drawing = false;
    }
  }

  async #draw() {
    if (!this.isConnected || !this.id) return;
    const word = this.querySelector("[data-testid=container-status]")?.textContent?.trim();
    try {
      if (!(await refresh(this.id)) && this.isConnected) {
        // Another page stands here now: the first container turns an empty page into a table.
        location.reload();
        return;
      }
    } catch {
      return; // The connection state says it; the next snapshot draws again.
    }
    const now = this.querySelector("[data-testid=container-status]")?.textContent?.trim();
    if (now && now !== word) announce(now);
  }

  #leave() {
    toast("Removed.", { kind: "success" });
    location.assign(this.dataset.gone ?? "/");
  }
}

customElements.define("live-region", LiveRegion);
