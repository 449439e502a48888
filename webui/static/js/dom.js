// @ts-check
/** Small helpers over the DOM. Nothing here takes HTML from anywhere but this server's templates. */

/**
 * An element with attributes and children; text is always a text node.
 * @param {string} name
 * @param {Record<string, string|boolean|null|undefined>} [attributes]
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** An icon of the sprite. @param {string} name @param {string} [extra] */
export function icon(name, extra = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `icon ${extra}`.trim());
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${document.documentElement.dataset.icons}#${name}`);
  svg.append(use);
  return svg;
}

/** Says something to screen readers, politely. @param {string} text */
export function announce(text) {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
}

/**
 * Calls `work` at most once per `wait` ms, and once more after the last call.
 * @param {() => void} work @param {number} wait
 */
export function throttled(work, wait) {
  let last = -Infinity;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  return () => {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      last = performance.now();
      work();
    }, Math.max(40, wait - (performance.now() - last)));
  };
}

/** @param {string} selector @param {ParentNode} [root] @returns {HTMLElement|null} */
export function find(selector, root = document) {
  return root.querySelector(selector);
}

/** @param {string} selector @param {ParentNode} [root] @returns {HTMLElement[]} */
export function findAll(selector, root = document) {
  return [...root.querySelectorAll(selector)].filter((node) => node instanceof HTMLElement);
}
