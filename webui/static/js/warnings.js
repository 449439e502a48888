// @ts-check
/** Pitfalls that a person should see before running a container, each with a fix. */

import { bytes, parseBytes } from "./format.js";

/**
 * @typedef {{rule: string, place: "volume"|"limits", title: string, why: string, fix: string,
 *   mount?: {source: string, target: string}, set?: {name: string, value: string}}} Warning
 */

/**
 * @param {Record<string, any>} body the request @param {Record<string, any>|null} image
 * @param {{cpus?: number, memory?: number}} capacity @returns {Warning[]}
 */
export function warnings(body, image, capacity) {
  return [...volumeWarnings(body, image), ...limitWarnings(body, capacity)];
}

/** @param {Record<string, any>} body @param {Record<string, any>|null} image @returns {Warning[]} */
function volumeWarnings(body, image) {
  const covered = (body.mounts ?? []).map((/** @type {{target: string}} */ mount) => mount.target.replace(/\/+$/, ""));
  const isCovered = (/** @type {string} */ path) => covered.some((/** @type {string} */ target) => target && (path === target || path.startsWith(`${target}/`)));
  const name = body.name || (image?.value ?? "app").split("/").pop().split(":")[0];
  const known = (image?.data_dirs ?? []).filter((/** @type {string} */ path) => !isCovered(path)).map((/** @type {string} */ path) => ({
    rule: "volume",
    place: /** @type {const} */ ("volume"),
    title: `This image keeps its data in ${path}`,
    why: "No volume is there, so the data goes when the container is removed.",
    fix: "Add a volume for it",
    mount: { source: volumeName(name, path), target: path },
  }));
  const declared = (image?.volumes ?? []).filter((/** @type {string} */ path) => !isCovered(path)).map((/** @type {string} */ path) => ({
    rule: "volume",
    place: /** @type {const} */ ("volume"),
    title: `The image wants a volume at ${path}`,
    why: "Without a name it gets an anonymous one, which is easy to lose.",
    fix: "Add a volume for it",
    mount: { source: volumeName(name, path), target: path },
  }));
  return [...declared, ...known];
}

const GENERIC = new Set(["var", "lib", "usr", "share", "data"]);

/** "db" and "/var/lib/postgresql/data" → "db-postgresql". @param {string} name @param {string} path */
export function volumeName(name, path) {
  const last = path.split("/").filter((part) => part && !GENERIC.has(part)).at(-1) ?? "data";
  return (name === last ? name : `${name}-${last}`).replace(/[^\w.-]/g, "-");
}

/** @param {Record<string, any>} body @param {{cpus?: number, memory?: number}} capacity @returns {Warning[]} */
function limitWarnings(body, capacity) {
  /** @type {Warning[]} */
  const found = [];
  const memory = body.limits?.memory ? parseBytes(String(body.limits.memory)) : null;
  if (!body.limits?.memory) {
    found.push({
      rule: "memory",
      place: "limits",
      title: "No memory limit",
      why: `A leak could take all ${capacity.memory ? bytes(capacity.memory) : "memory"} of this host, and the kernel would kill whatever it picks.`,
      fix: "Limit to 512 MiB",
      set: { name: "memory", value: "512m" },
    });
  } else if (memory && capacity.memory && memory > capacity.memory) {
    found.push({
      rule: "memory",
      place: "limits",
      title: "More memory than this host has",
      why: `The host has ${bytes(capacity.memory)}: this limit limits nothing.`,
      fix: "Limit to half of it",
      set: { name: "memory", value: `${Math.floor(capacity.memory / 2 / 1048576)}m` },
    });
  }
  if (!body.limits?.cpus && !body.limits?.cpu_quota) {
    found.push({
      rule: "cpu",
      place: "limits",
      title: "No CPU limit",
      why: `A busy loop would take ${capacity.cpus ? `all ${capacity.cpus} cores` : "every core"} and slow everything else down.`,
      fix: "Limit to one core",
      set: { name: "cpus", value: "1" },
    });
  }
  return found;
}
