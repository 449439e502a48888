// @ts-check
/** The create form as the API's JSON, and the same as a `docker run` line that people can read. */

import { networkFlag, networkOf } from "./network-rows.js";
import { addOptions, quote } from "./options.js";

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
  const networks = rows(form, "networks").map(networkOf);
  if (networks.length) body.networks = networks;
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
  addOptions(form, body);
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
  // As docker run: without a host port, a free one.
  const mapped = where ? `${where}:${host}:${inside}` : host ? `${host}:${inside}` : inside;
  return `${mapped}${protocol === "tcp" ? "" : `/${protocol}`}`;
}

/** @param {Element} row */
function mountOf(row) {
  const type = text(row, "mount_type");
  const checked = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (row.querySelector(`[name=${name}]`)).checked;
  /** @type {Record<string, any>} */
  const mount = {
    type,
    source: type === "tmpfs" ? "" : text(row, "mount_source"),
    target: text(row, "mount_target"),
    read_only: checked("mount_read_only"),
  };
  if (type === "volume") {
    if (text(row, "mount_subpath")) mount.subpath = text(row, "mount_subpath");
    if (checked("mount_nocopy")) mount.nocopy = true;
  } else if (type === "bind") {
    if (text(row, "mount_propagation") !== "rprivate") mount.propagation = text(row, "mount_propagation");
    if (text(row, "mount_recursive") !== "enabled") mount.recursive = text(row, "mount_recursive");
  } else {
    for (const name of ["tmpfs_size", "tmpfs_mode"]) if (text(row, `mount_${name}`)) mount[name] = text(row, `mount_${name}`);
    const options = text(row, "mount_tmpfs_options").split(",").map((each) => each.trim()).filter(Boolean);
    if (options.length) mount.tmpfs_options = options;
  }
  return mount;
}

/** As `--mount`, where `-v` has no word for it. @param {Record<string, any>} mount */
function mountFlag(mount) {
  if (mount.type === "tmpfs") {
    const options = [mount.tmpfs_size && `size=${mount.tmpfs_size}`, mount.tmpfs_mode && `mode=${mount.tmpfs_mode}`, mount.read_only && "ro", ...(mount.tmpfs_options ?? [])].filter(Boolean);
    return `--tmpfs ${quote(mount.target + (options.length ? `:${options.join(",")}` : ""))}`;
  }
  if (!mount.subpath && !mount.recursive) {
    const options = [mount.read_only && "ro", mount.nocopy && "nocopy", mount.propagation].filter(Boolean);
    return `-v ${quote(`${mount.source}${mount.source ? ":" : ""}${mount.target}${options.length && mount.source ? `:${options.join(",")}` : ""}`)}`;
  }
  const words = [`type=${mount.type}`, mount.source && `source=${mount.source}`, `target=${mount.target}`, mount.read_only && "readonly",
    mount.subpath && `volume-subpath=${mount.subpath}`, mount.nocopy && "volume-nocopy",
    mount.propagation && `bind-propagation=${mount.propagation}`, mount.recursive && `bind-recursive=${mount.recursive}`];
  return `--mount ${quote(words.filter(Boolean).join(","))}`;
}

/** @param {Record<string, any>} body @param {string[]} flags of further options */
export function runLine(body, flags = []) {
  const parts = [body.start ? "docker run -d" : "docker create"];
  if (body.name) parts.push(`--name ${quote(body.name)}`);
  for (const port of body.ports ?? []) parts.push(`-p ${port}`);
  for (const mount of body.mounts ?? []) parts.push(mountFlag(mount));
  for (const [name, value] of Object.entries(body.env ?? {})) parts.push(`-e ${quote(`${name}=${value}`)}`);
  if (body.working_dir) parts.push(`-w ${quote(body.working_dir)}`);
  if (body.user) parts.push(`-u ${quote(body.user)}`);
  if (body.limits?.memory) parts.push(`-m ${quote(String(body.limits.memory))}`);
  if (body.limits?.cpus) parts.push(`--cpus ${body.limits.cpus}`);
  if (body.limits?.pids) parts.push(`--pids-limit ${body.limits.pids}`);
  if (body.restart) parts.push(`--restart ${body.restart.name}${body.restart.max_retries ? `:${body.restart.max_retries}` : ""}`);
  if (body.network) parts.push(`--network ${quote(body.network)}`);
  parts.push(...(body.networks ?? []).map(networkFlag));
  // docker takes one word; what follows it comes before the command.
  const [, first, more] = /^("[^"]*"|'[^']*'|\S+)\s*([^]*)$/.exec(body.entrypoint ?? "") ?? [];
  if (first) parts.push(`--entrypoint ${first}`);
  parts.push(...flags);
  parts.push(body.image ? quote(body.image) : "IMAGE");
  const last = [more, body.command].filter(Boolean).map((words) => ` ${words}`).join("");
  return parts.join(" \\\n  ") + last;
}
