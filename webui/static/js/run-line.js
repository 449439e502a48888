// @ts-check
/** The create form as the API's JSON, and the same as a `docker run` line that people can read. */

/** @param {ParentNode} row @param {string} name */
function text(row, name) {
  const field = /** @type {HTMLInputElement|HTMLSelectElement|null} */ (row.querySelector(`[name="${name}"]`));
  return field?.value.trim() ?? "";
}

/** @param {HTMLFormElement} form @param {string} kind */
function rows(form, kind) {
  return [...form.querySelectorAll(`[data-row="${kind}"]`)];
}

/**
 * What the API takes; only what was filled in.
 * @param {HTMLFormElement} form @returns {Record<string, any>}
 */
export function requestBody(form) {
  /** @type {Record<string, any>} */
  const body = { image: text(form, "image"), start: /** @type {HTMLInputElement} */ (form.elements.namedItem("start")).checked };
  for (const name of ["name", "command", "entrypoint", "working_dir", "user", "network"]) {
    const value = text(form, name);
    if (value) body[name] = value;
  }
  const ports = rows(form, "ports").map(portText).filter(Boolean);
  if (ports.length) body.ports = ports;
  const mounts = rows(form, "mounts").map(mountOf).filter((mount) => mount.target || mount.source);
  if (mounts.length) body.mounts = mounts;
  const env = Object.fromEntries(rows(form, "env").filter((row) => text(row, "env_name")).map((row) => [
    text(row, "env_name"),
    /** @type {HTMLInputElement} */ (row.querySelector("[name=env_value]")).value,
  ]));
  if (Object.keys(env).length) body.env = env;
  /** @type {Record<string, any>} */
  const limits = {};
  if (text(form, "memory")) limits.memory = text(form, "memory");
  if (text(form, "cpus")) limits.cpus = number(text(form, "cpus"));
  if (text(form, "pids")) limits.pids = number(text(form, "pids"));
  if (Object.keys(limits).length) body.limits = limits;
  const restart = text(form, "restart");
  if (restart && restart !== "no") {
    body.restart = { name: restart };
    if (restart === "on-failure" && text(form, "max_retries")) body.restart.max_retries = number(text(form, "max_retries"));
  }
  return body;
}

/** A number where it is one; otherwise the text, so that the server can say what is wrong with it. @param {string} value */
function number(value) {
  return Number.isNaN(Number(value)) ? value : Number(value);
}

/** @param {Element} row */
function portText(row) {
  const [ip, host, inside, protocol] = ["host_ip", "host_port", "container_port", "protocol"].map((name) => text(row, name));
  if (!host && !inside) return "";
  const where = ip.includes(":") && !ip.startsWith("[") ? `[${ip}]` : ip;
  return `${where ? `${where}:` : ""}${host || inside}:${inside}${protocol === "tcp" ? "" : `/${protocol}`}`;
}

/** @param {Element} row */
function mountOf(row) {
  const type = text(row, "mount_type");
  return {
    type,
    source: type === "tmpfs" ? "" : text(row, "mount_source"),
    target: text(row, "mount_target"),
    read_only: /** @type {HTMLInputElement} */ (row.querySelector("[name=mount_read_only]")).checked,
  };
}

/** @param {string} word */
function quote(word) {
  return word && /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}

/** @param {Record<string, any>} body */
export function runLine(body) {
  const parts = [body.start ? "docker run -d" : "docker create"];
  if (body.name) parts.push(`--name ${quote(body.name)}`);
  for (const port of body.ports ?? []) parts.push(`-p ${port}`);
  for (const mount of body.mounts ?? []) {
    const end = mount.read_only ? ":ro" : "";
    if (mount.type === "tmpfs") parts.push(`--tmpfs ${quote(mount.target)}`);
    else parts.push(`-v ${quote(`${mount.source}${mount.source ? ":" : ""}${mount.target}${end}`)}`);
  }
  for (const [name, value] of Object.entries(body.env ?? {})) parts.push(`-e ${quote(`${name}=${value}`)}`);
  if (body.working_dir) parts.push(`-w ${quote(body.working_dir)}`);
  if (body.user) parts.push(`-u ${quote(body.user)}`);
  if (body.limits?.memory) parts.push(`-m ${quote(String(body.limits.memory))}`);
  if (body.limits?.cpus) parts.push(`--cpus ${body.limits.cpus}`);
  if (body.limits?.pids) parts.push(`--pids-limit ${body.limits.pids}`);
  if (body.restart) parts.push(`--restart ${body.restart.name}${body.restart.max_retries ? `:${body.restart.max_retries}` : ""}`);
  if (body.network) parts.push(`--network ${quote(body.network)}`);
  if (body.entrypoint) parts.push(`--entrypoint ${quote(body.entrypoint)}`);
  parts.push(body.image ? quote(body.image) : "IMAGE");
  const last = body.command ? ` ${body.command}` : "";
  return parts.join(" \\\n  ") + last;
}
