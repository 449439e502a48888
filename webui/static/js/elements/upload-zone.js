// @ts-check
/** `<upload-zone>`: a file input that also takes a dropped file; the form around it sends it. */

import { find } from "../dom.js";
import { bytes } from "../format.js";

class UploadZone extends HTMLElement {
  connectedCallback() {
    const input = /** @type {HTMLInputElement|null} */ (this.querySelector("input[type=file]"));
    if (!input) return;
    input.addEventListener("change", () => this.#chosen(input));
    for (const type of ["dragenter", "dragover"]) {
      this.addEventListener(type, (event) => {
        event.preventDefault();
        this.dataset.over = "true";
      });
    }
    for (const type of ["dragleave", "drop"]) {
      this.addEventListener(type, () => {
        this.dataset.over = "false";
      });
    }
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      if (!event.dataTransfer?.files.length) return;
      input.files = event.dataTransfer.files;
      this.#chosen(input);
    });
  }

  /** Show what was chosen, and offer its name as the image's. @param {HTMLInputElement} input */
  #chosen(input) {
    const file = input.files?.[0];
    const text = find("[data-file-name]", this);
    if (!file || !text) return;
    text.textContent = `${file.name} · ${bytes(file.size)}`;
    const reference = find("input[name=reference]", this.closest("form") ?? this);
    if (reference instanceof HTMLInputElement) {
      const stem = file.name.toLowerCase().replace(/\.(tar|tgz|txz|gz|xz|zst)/g, "").replace(/[^a-z0-9._-]+/g, "-").replace(/^[-._]+|[-._]+$/g, "");
      reference.placeholder = stem ? `${stem}:latest` : reference.placeholder;
    }
  }
}

customElements.define("upload-zone", UploadZone);
