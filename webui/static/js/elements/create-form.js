// @ts-check
/**
 * `<create-form>`: the form that runs a container. The image's own settings show as placeholders;
 * pitfalls (no limits, data outside a volume) are named beside the fields with a fix one click away;
 * the equivalent `docker run` line is written as one types. The server's rules decide.
 */

import { api, ApiError } from "../api.js";
import { element, find, findAll, icon } from "../dom.js";
import { clearErrors, showError } from "../forms.js";
import { bytes, parseBytes } from "../format.js";
import { chooseUnused, fillNetwork, offer } from "../network-rows.js";
import { fillOptions, optionFlags, quote, showWhatIsSet, sizeText } from "../options.js";
import { requestBody, runLine } from "../run-line.js";
import { volumeName, warnings } from "../warnings.js";

/** @typedef {Record<string, any>} ImageChoice */

const MEMORY_STEPS = [0, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152, 65536, 131072];

/** @type {Record<string, string>} */
const FIELD_OF_STAGE = { exec: "command", user: "user", cwd: "working_dir", mounts: "mounts" };

class CreateForm extends HTMLElement {
  /** @type {ImageChoice[]} */
  #images = [];
  /** @type {{cpus?: number, memory?: number}} */
  #capacity = {};
  /** Containers that an earlier try of this form left, never started. @type {string|null} */
  #leftover = null;

  connectedCallback() {
    const data = JSON.parse(document.getElementById("create-data")?.textContent ?? "{}");
    this.#images = data.images ?? [];
    this.#capacity = data.capacity ?? {};
    if (data.initial) this.#start(data.initial);
    if (data.volume) this.addRow("mounts", { mount_type: "volume", mount_source: volumeName(this.field("name").value || "app", data.volume), mount_target: data.volume });
    this.#showCapacity();
    this.form.addEventListener("input", (event) => this.#typed(event));
    this.form.addEventListener("click", (event) => this.#clicked(event));
    this.form.addEventListener("submit", (event) => this.#submit(event));
    this.#imageChanged();
    if (!this.field("image").value) this.field("image").focus();
  }

  get form() {
    return /** @type {HTMLFormElement} */ (find("form", this));
  }

  /** @param {string} name @returns {HTMLInputElement} */
  field(name) {
    return /** @type {HTMLInputElement} */ (this.form.elements.namedItem(name));
  }

  get image() {
    const name = this.field("image").value.trim();
    const tagged = /[:@][^/]*$/.test(name) ? name : `${name}:latest`;
    return this.#images.find((image) => image.value === name || image.value === tagged || image.id === name) ?? null;
  }

  /** @param {Event} event */
  #typed(event) {
    const target = event.target;
    if (!(target instanceof HTMLElement)) return;
    target.removeAttribute("aria-invalid");
    if (target.dataset.slider) this.#slid(/** @type {HTMLInputElement} */ (target));
    else if (target.getAttribute("name") === "memory" || target.getAttribute("name") === "cpus") this.#placeSliders();
    if (target.getAttribute("name") === "image") this.#imageChanged();
    if (target.getAttribute("name") === "mount_type") this.#mountType(target.closest("[data-row]"));
    this.#update();
  }

  /** @param {Event} event */
  #clicked(event) {
    const target = event.target instanceof Element ? event.target : null;
    const add = target?.closest("[data-add]");
    if (add instanceof HTMLElement && add.dataset.add) {
      const row = this.addRow(add.dataset.add);
      if (add.dataset.add === "networks") chooseUnused(this.form, row);
      (find("select[data-primary]", row) ?? find("input", row))?.focus();
      this.#update();
    }
    if (target?.closest("[data-paste]")) this.#paste();
    const remove = target?.closest("[data-remove-row]");
    if (remove) {
      const rows = remove.closest("[data-rows]");
      remove.closest("[data-row]")?.remove();
      find("[data-add]", rows?.parentElement ?? this.form)?.focus();
      this.#update();
    }
  }

  /** @param {string} kind @param {Record<string, string>} [values] @returns {HTMLElement} */
  addRow(kind, values = {}) {
    const template = /** @type {HTMLTemplateElement} */ (find(`[data-row-template="${kind}"]`, this.form));
    const row = /** @type {HTMLElement} */ (document.importNode(template.content, true).firstElementChild);
    for (const [name, value] of Object.entries(values)) {
      const field = find(`[name="${name}"]`, row);
      if (field instanceof HTMLInputElement && field.type === "checkbox") field.checked = value === "true";
      else if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = value;
    }
    find(`[data-rows="${kind}"]`, this.form)?.append(row);
    if (kind === "mounts") this.#mountType(row);
    return row;
  }

  /** What a copied container had. @param {{request: Record<string, any>, ports: Record<string, any>[]}} initial */
  #start({ request, ports }) {
    for (const name of ["name", "working_dir", "user", "network"]) {
      const field = this.field(name);
      if (name === "network") offer(field, request.network);
      if (request[name]) field.value = request[name];
    }
    for (const name of ["command", "entrypoint"]) this.field(name).value = (request[name] ?? []).map(quote).join(" ");
    const { memory, cpus, pids } = request.limits ?? {};
    if (memory) this.field("memory").value = sizeText(memory);
    if (cpus) this.field("cpus").value = String(cpus);
    if (pids) this.field("pids").value = String(pids);
    if (request.restart) {
      this.field("restart").value = request.restart.name;
      this.field("max_retries").value = request.restart.max_retries || "";
    }
    for (const [name, value] of Object.entries(request.env ?? {})) this.addRow("env", { env_name: name, env_value: value });
    for (const port of ports) {
      this.addRow("ports", { host_ip: port.host_ip === "0.0.0.0" ? "" : port.host_ip, host_port: String(port.host_port ?? ""), container_port: String(port.container_port), protocol: port.protocol });
    }
    for (const mount of request.mounts ?? []) this.#copyMount(mount);
    for (const network of request.networks ?? []) fillNetwork(this.addRow("networks"), network);
    fillOptions(this.form, request);
    for (const fold of findAll("details[data-fold]", this.form)) {
      if (fold instanceof HTMLDetailsElement) fold.open = false;
    }
  }

  /** Begin anew with a `docker run` line. */
  async #paste() {
    const said = find("[data-pasted]", this.form);
    const line = this.field("line").value;
    clearErrors(this.form);
    if (said) said.textContent = "";
    try {
      const { request, ports, ignored } = await api("POST", "/api/v1/containers/run-line", { line });
      this.form.reset();
      this.field("image").value = request.image;
      for (const rows of findAll("[data-rows]", this.form)) rows.replaceChildren();
      this.#start({ request, ports });
      this.#placeSliders();
      this.#imageChanged();
      if (said) said.textContent = ignored.length ? `Filled in, without ${ignored.join("; ")}.` : "Filled in.";
    } catch (error) {
      showError(this.form, error);
    }
  }

  /** @param {Record<string, any>} mount */
  #copyMount(mount) {
    /** @type {Record<string, string>} */
    const values = {};
    for (const [name, value] of Object.entries(mount)) {
      values[`mount_${name}`] = name === "tmpfs_size" ? sizeText(value) : Array.isArray(value) ? value.join(", ") : String(value);
    }
    const row = this.addRow("mounts", values);
    const more = find("details", row);
    if (more instanceof HTMLDetailsElement) more.open = Object.keys(mount).some((name) => !["type", "source", "target", "read_only"].includes(name));
  }

  /** @param {Element|null} row */
  #mountType(row) {
    if (!row) return;
    const type = /** @type {HTMLSelectElement|null} */ (find("[name=mount_type]", row))?.value;
    const source = find("[name=mount_source]", row);
    if (!(source instanceof HTMLInputElement)) return;
    source.disabled = type === "tmpfs";
    source.placeholder = type === "bind" ? "/path/on/this/host" : type === "tmpfs" ? "gone when it stops" : "volume name";
    if (type === "volume") source.setAttribute("list", "volume-list");
    else source.removeAttribute("list");
    for (const option of findAll("[data-only]", row)) option.hidden = option.dataset.only !== type;
  }

  #imageChanged() {
    const image = this.image;
    this.field("command").placeholder = image ? [...image.cmd].map(quote).join(" ") || "none" : "";
    this.field("entrypoint").placeholder = image ? image.entrypoint.map(quote).join(" ") || "none" : "";
    this.field("working_dir").placeholder = image?.working_dir ?? "/";
    this.field("user").placeholder = image?.user ?? "root";
    this.#exposed(image);
    const list = find("[data-image-env-list]", this.form);
    const holder = find("[data-image-env]", this.form);
    if (holder) holder.hidden = !image?.env.length;
    list?.replaceChildren(...(image?.env ?? []).map((/** @type {string} */ item) => element("li", {}, item)));
    this.#update();
  }

  /** Ports that the image says it listens on, as one-click rows. @param {ImageChoice|null} image */
  #exposed(image) {
    const holder = find("[data-exposed]", this.form);
    if (!holder) return;
    const taken = findAll("[name=container_port]", this.form).map((input) => /** @type {HTMLInputElement} */ (input).value);
    const chips = (image?.exposed_ports ?? []).filter((/** @type {string} */ port) => !taken.includes(port.split("/")[0])).map((/** @type {string} */ port) => {
      const [number, protocol = "tcp"] = port.split("/");
      const button = element("button", { type: "button", class: "button quiet" }, icon("plug", "small"), `Publish ${port}`);
      button.addEventListener("click", () => {
        const row = this.addRow("ports", { container_port: number, host_port: Number(number) < 1024 ? String(Number(number) + 8000) : number, protocol });
        const input = find("[name=host_port]", row);
        input?.focus();
        if (input instanceof HTMLInputElement) input.select();
        this.#update();
      });
      return button;
    });
    holder.replaceChildren(...chips);
  }

  #showCapacity() {
    const note = find("[data-capacity]", this.form);
    const { cpus, memory } = this.#capacity;
    if (note && (cpus || memory)) note.textContent = `This host has ${[cpus ? `${cpus} cores` : "", memory ? `${bytes(memory)} of memory` : ""].filter(Boolean).join(" and ")}.`;
    this.#placeSliders();
  }

  /** Sizes of the memory slider, up to what the host has. */
  get memorySteps() {
    const most = this.#capacity.memory ? this.#capacity.memory / 1048576 : Infinity;
    return MEMORY_STEPS.filter((step) => step <= most);
  }

  #placeSliders() {
    const memory = /** @type {HTMLInputElement} */ (find("[data-slider=memory]", this.form));
    const steps = this.memorySteps;
    memory.max = String(steps.length - 1);
    const wanted = (parseBytes(this.field("memory").value) ?? 0) / 1048576;
    memory.value = String(Math.max(0, steps.findLastIndex((step) => step <= wanted)));
    memory.setAttribute("aria-valuetext", this.field("memory").value || "no limit");
    const cpus = /** @type {HTMLInputElement} */ (find("[data-slider=cpus]", this.form));
    cpus.max = String((this.#capacity.cpus ?? 4) * 4);
    cpus.value = String(Math.round(Number(this.field("cpus").value || 0) * 4));
    cpus.setAttribute("aria-valuetext", this.field("cpus").value || "no limit");
  }

  /** @param {HTMLInputElement} slider */
  #slid(slider) {
    if (slider.dataset.slider === "memory") {
      const size = this.memorySteps[Number(slider.value)];
      this.field("memory").value = size ? (size % 1024 === 0 ? `${size / 1024}g` : `${size}m`) : "";
    } else {
      this.field("cpus").value = Number(slider.value) ? String(Number(slider.value) / 4) : "";
    }
    slider.setAttribute("aria-valuetext", this.field(slider.dataset.slider ?? "").value || "no limit");
  }

  #update() {
    const body = requestBody(this.form);
    const line = document.getElementById("run-line");
    if (line) line.textContent = runLine(body, optionFlags(this.form));
    const retries = find("[data-retries]", this.form);
    if (retries) retries.hidden = this.field("restart").value !== "on-failure";
    // With the network of somebody else there is nothing to join.
    const joining = find("[data-joining]", this.form);
    if (joining) joining.hidden = /^(none|host|container:.*)$/.test(this.field("network").value) && !body.networks;
    const submit = find("[data-testid=create]", this.form);
    if (submit && submit.getAttribute("aria-busy") !== "true") submit.textContent = this.field("start").checked ? "Run" : "Create";
    const note = find("[data-image-note]", this.form);
    if (note) note.hidden = Boolean(this.image);
    showWhatIsSet(this.form);
    this.#warn(body);
  }

  /** @param {Record<string, any>} body */
  #warn(body) {
    const found = warnings(body, this.image, this.#capacity);
    for (const place of ["volume", "limits"]) {
      const holder = find(`[data-warnings="${place}"]`, this.form);
      holder?.replaceChildren(...found.filter((each) => each.place === place).map((each) => this.#warning(each)));
    }
  }

  /** @param {import("../warnings.js").Warning} warning */
  #warning(warning) {
    const template = /** @type {HTMLTemplateElement} */ (find("[data-warning-template]", this.form));
    const node = /** @type {HTMLElement} */ (document.importNode(template.content, true).firstElementChild);
    node.dataset.rule = warning.rule;
    const [title, why, button] = [find("strong", node), find(".why", node), find("button", node)];
    if (title) title.textContent = warning.title;
    if (why) why.textContent = warning.why;
    if (button) {
      button.textContent = warning.fix;
      button.addEventListener("click", () => {
        if (warning.mount) {
          const row = this.addRow("mounts", { mount_type: "volume", mount_source: warning.mount.source, mount_target: warning.mount.target });
          find("[name=mount_source]", row)?.focus();
        } else if (warning.set) {
          this.field(warning.set.name).value = warning.set.value;
          this.field(warning.set.name).focus();
          this.#placeSliders();
        }
        this.#update();
      });
    }
    return node;
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const button = /** @type {HTMLButtonElement} */ (find("[data-testid=create]", this.form));
    const status = find("[data-form-status]", this.form);
    clearErrors(this.form);
    if (!this.field("image").value.trim()) {
      showError(this.form, new ApiError("required", "Choose an image.", { field: "image" }, 0));
      return;
    }
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    this.dataset.asking = "";
    if (status) status.textContent = this.field("start").checked ? "Creating and starting" : "Creating";
    try {
      await this.#discardLeftover();
      const answer = await api("POST", "/api/v1/containers?wait=true&timeout=60", requestBody(this.form));
      location.assign(`/containers/${answer.target_id ?? answer.container?.id ?? answer.id}/`);
    } catch (error) {
      // What went wrong stands at its field: no toast needs to say it again.
      this.dataset.operation = error instanceof ApiError ? String(error.extra.operation ?? "") : "";
      await this.#remember(error);
      showError(this.form, withField(error));
      if (status) status.textContent = "";
      button.disabled = false;
    } finally {
      button.removeAttribute("aria-busy");
      delete this.dataset.asking;
    }
  }

  /**
   * A container that was made but could not start keeps its name. It never ran, so the next try of
   * this form replaces it, as long as it still has not run.
   * @param {unknown} error
   */
  async #remember(error) {
    if (!(error instanceof ApiError) || !error.extra.operation) return;
    try {
      const operation = await api("GET", `/api/v1/operations/${error.extra.operation}`);
      const row = await api("GET", `/api/v1/containers/${operation.target_id}`);
      this.#leftover = neverRan(row) ? row.id : null;
    } catch {
      this.#leftover = null; // Nothing of it is left.
    }
  }

  async #discardLeftover() {
    if (!this.#leftover) return;
    const id = this.#leftover;
    this.#leftover = null;
    try {
      const row = await api("GET", `/api/v1/containers/${id}`);
      if (neverRan(row)) await api("DELETE", `/api/v1/containers/${id}?force=true&wait=true`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
  }
}

/** @param {Record<string, any>} row of a container */
function neverRan(row) {
  return row.status === "created" || row.exit_reason === "start_failed";
}

/**
 * The field that a failed start is about: the runtime names the step, the form has the field.
 * @param {unknown} error
 */
function withField(error) {
  if (!(error instanceof ApiError) || error.field || typeof error.extra.stage !== "string") return error;
  const field = FIELD_OF_STAGE[error.extra.stage];
  return field ? new ApiError(error.code, error.message, { ...error.extra, field }, error.status) : error;
}

customElements.define("create-form", CreateForm);
