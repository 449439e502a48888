// @ts-check
/** Rows of further networks in the create form: what they say, and how they come to say it. */

import { element, find, findAll } from "./dom.js";
import { quote } from "./options.js";

/** @param {ParentNode} row @param {string} name */
function text(row, name) {
  const field = /** @type {HTMLInputElement|HTMLSelectElement|null} */ (row.querySelector(`[name="${name}"]`));
  return field?.value.trim() ?? "";
}

/** Texts between commas. @param {string} list */
function words(list) {
  return list.split(/[\s,]+/).filter(Boolean);
}

/** What a row says, as the API takes it. @param {Element} row */
export function networkOf(row) {
  /** @type {Record<string, any>} */
  const network = { name: text(row, "joined_name") };
  for (const name of ["ip", "ip6", "mac_address"]) if (text(row, `joined_${name}`)) network[name] = text(row, `joined_${name}`);
  for (const name of ["aliases", "link_local_ips"]) {
    const given = words(text(row, `joined_${name}`));
    if (given.length) network[name] = given;
  }
  return network;
}

// What `docker run --network name=…,ip=…` calls them.
const NETWORK_WORDS = { name: "name", ip: "ip", ip6: "ip6", mac_address: "mac-address", aliases: "alias", link_local_ips: "link-local-ip" };

/**
 * The values of a row, by the names of its fields: `network` is an object of a request, or such a text.
 * @param {Record<string, any>|string} network @returns {Record<string, string>}
 */
function rowValues(network) {
  /** @type {Record<string, string[]>} */
  const given = {};
  if (typeof network === "string") {
    const parts = network.includes("=") ? network.split(",").map((part) => part.split("=")) : [["name", network]];
    for (const [word, value] of parts) {
      const name = Object.entries(NETWORK_WORDS).find(([, known]) => known === word.trim())?.[0];
      if (name) (given[name] ??= []).push((value ?? "").trim());
    }
  } else {
    for (const [name, value] of Object.entries(network)) given[name] = [value].flat();
  }
  return Object.fromEntries(Object.entries(given).map(([name, values]) => [`joined_${name}`, values.join(", ")]));
}

/** As `docker run` says it. @param {Record<string, any>} network */
export function networkFlag(network) {
  const parts = Object.entries(NETWORK_WORDS).flatMap(([name, word]) => [network[name] ?? []].flat().map((value) => `${word}=${value}`));
  return `--network ${quote(parts.length > 1 ? parts.join(",") : network.name)}`;
}

/** Fill a row with a network of a request. @param {HTMLElement} row @param {Record<string, any>|string} network */
export function fillNetwork(row, network) {
  const values = rowValues(network);
  offer(/** @type {HTMLSelectElement} */ (find("[name=joined_name]", row)), values.joined_name);
  for (const [name, value] of Object.entries(values)) {
    const field = find(`[name="${name}"]`, row);
    if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = value;
  }
  const more = find("details", row);
  if (more instanceof HTMLDetailsElement) more.open = findAll("input", more).some((field) => /** @type {HTMLInputElement} */ (field).value);
}

/** A network that is not there is the server's to name. @param {HTMLElement} select @param {string} name */
export function offer(select, name) {
  if (name && !find(`option[value="${CSS.escape(name)}"]`, select)) select.append(element("option", { value: name }, name));
}

/** Let a new row begin with the first network that none has yet. @param {HTMLFormElement} form @param {HTMLElement} row */
export function chooseUnused(form, row) {
  const select = /** @type {HTMLSelectElement} */ (find("[name=joined_name]", row));
  const others = findAll("[name=network], [name=joined_name]", form).filter((each) => each !== select);
  const taken = others.map((each) => /** @type {HTMLSelectElement} */ (each).value);
  const free = [...select.options].find((option) => !taken.includes(option.value));
  if (free) select.value = free.value;
}
