// @ts-check
/**
 * The same templates draw a page first and keep it fresh: a region asks the server for the page
 * again and is morphed into what came back, so focus, selection and scroll stay. Elements marked
 * `data-keep` own what is inside them and are left alone. What stands elsewhere on the page and goes
 * along with a region, such as a count in its heading, names it in `data-with`.
 */

import { Idiomorph } from "../vendor/idiomorph.js";
import { findAll } from "./dom.js";

/** They draw what is inside them from their attributes, which the server knows, and the rest of their state, which it does not. */
const SELF_DRAWN = new Set(["relative-time", "copy-button", "secret-value"]);

const OPTIONS = {
  morphStyle: "outerHTML",
  callbacks: {
    /** @param {Node} from @param {Node} to */
    beforeNodeMorphed(from, to) {
      if (!(from instanceof Element) || !(to instanceof Element)) return true;
      if (from.hasAttribute("data-keep") && to.hasAttribute("data-keep")) return false;
      if (from.localName === to.localName && SELF_DRAWN.has(from.localName)) {
        for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
        return false;
      }
      return true;
    },
    /** @param {Node} node */
    afterNodeMorphed(node) {
      if (node instanceof Element && node.localName === "port-link") node.dispatchEvent(new Event("slipway:morphed"));
    },
    /** Open menus, checked boxes and live cells are the browser's, not the template's. */
    beforeAttributeUpdated(/** @type {string} */ name, /** @type {Element} */ node) {
      if (name === "open" && node.localName === "details") return false;
      return !(name === "checked" || name === "aria-busy");
    },
    beforeNodeRemoved(/** @type {Node} */ node) {
      return !(node instanceof Text && node.parentElement?.closest("[data-cell], [data-gauge]"));
    },
  },
};

/** @param {Element} from @param {Element} to */
export function morph(from, to) {
  // What somebody types or chooses stays. Idiomorph would keep all that is inside of a focused button, too: its old
  // label, with the attributes of another action.
  const typing = document.activeElement?.matches("input, textarea, select") ?? false;
  Idiomorph.morph(from, to, { ...OPTIONS, ignoreActiveValue: typing });
}

/**
 * The server's present page, parsed and inert.
 * @param {string} [url] default: where the browser is @returns {Promise<Document|null>} null: not there
 */
export async function fetchPage(url = location.href) {
  const response = await fetch(url, { credentials: "same-origin", headers: { "X-Slipway-Region": "1" } });
  if (!response.ok || response.redirected) return null;
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/**
 * Fetch the page again and morph the element with this id.
 * @param {string} id @returns {Promise<boolean>} false when the page has no such element any more
 */
export async function refresh(id) {
  const where = location.href;
  const page = await fetchPage(where);
  const present = document.getElementById(id);
  // Whoever navigated meanwhile must not get the old page's region.
  if (!page || !present || location.href !== where) return true;
  const fresh = page.getElementById(id);
  if (!fresh) return false;
  morph(present, fresh);
  morphAlong(id, page);
  return true;
}

/**
 * Morph what goes along with a region (`data-with`).
 * @param {string} id the region's @param {Document} page as the server has it now
 */
export function morphAlong(id, page) {
  for (const present of findAll(`[data-with="${id}"]`)) {
    const fresh = page.getElementById(present.id);
    if (fresh) morph(present, fresh);
  }
}
