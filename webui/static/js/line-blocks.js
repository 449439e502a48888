// @ts-check
/**
 * Lines of a list that scrolls, in blocks of 100; a block out of sight is emptied and keeps its height,
 * so 100,000 lines scroll smoothly, wrapped or not.
 */

import { element } from "./dom.js";

/** @typedef {{from: number, to: number, node: HTMLElement, filled: boolean, height: number}} Block */

const BLOCK = 100;
const LINE_HEIGHT = 18;

export class LineBlocks {
  /** @type {Block[]} */
  #blocks = [];
  /** @type {WeakMap<Element, Block>} */
  #blockOf = new WeakMap();
  #count = 0;
  #list;
  #draw;
  #eye;

  /**
   * @param {HTMLElement} scroll what scrolls
   * @param {HTMLElement} list in it, for the blocks
   * @param {(at: number) => HTMLElement} draw makes the line at a position
   */
  constructor(scroll, list, draw) {
    this.#list = list;
    this.#draw = draw;
    this.#eye = new IntersectionObserver((entries) => this.#seen(entries), { root: scroll, rootMargin: "1200px 0px" });
  }

  /** Look no more at what is in sight. */
  stop() {
    this.#eye.disconnect();
  }

  clear() {
    this.#eye.disconnect();
    this.#blocks = [];
    this.#count = 0;
    this.#list.replaceChildren();
  }

  /** One more line, at the end. */
  add() {
    this.#count += 1;
    const last = this.#blocks.at(-1);
    if (last && last.to - last.from < BLOCK) {
      last.to += 1;
      if (last.filled) last.node.append(this.#draw(last.to - 1));
      else this.#reserve(last);
      return;
    }
    const node = element("div");
    const block = { from: this.#count - 1, to: this.#count, node, filled: false, height: 0 };
    this.#blocks.push(block);
    this.#blockOf.set(node, block);
    this.#reserve(block);
    this.#list.append(node);
    this.#eye.observe(node);
  }

  /** What is in sight at the end: filled at once, not when the observer wakes. */
  fillLast() {
    for (const block of this.#blocks.slice(-2)) this.#fill(block);
  }

  /** A line has changed. @param {number} at its position */
  redraw(at) {
    const block = this.#blocks[Math.floor(at / BLOCK)];
    if (block?.filled) block.node.children[at - block.from]?.replaceWith(this.#draw(at));
  }

  /** Any line may have changed. */
  redrawAll() {
    for (const block of this.#blocks) {
      if (!block.filled) continue;
      block.filled = false;
      this.#fill(block);
    }
  }

  /** Lines have other heights than they had. */
  forgetHeights() {
    for (const block of this.#blocks) {
      block.height = 0;
      if (!block.filled) this.#reserve(block);
    }
  }

  /** Bring a line into view. @param {number} at its position */
  show(at) {
    const block = this.#blocks[Math.floor(at / BLOCK)];
    if (!block) return;
    this.#fill(block);
    block.node.children[at - block.from]?.scrollIntoView({ block: "center", inline: "nearest" });
  }

  /** @param {Block} block */
  #reserve(block) {
    block.node.style.height = `${block.height || (block.to - block.from) * LINE_HEIGHT}px`;
  }

  /** @param {Block} block */
  #fill(block) {
    if (block.filled) return;
    block.filled = true;
    block.node.style.height = "";
    const nodes = [];
    for (let at = block.from; at < block.to; at += 1) nodes.push(this.#draw(at));
    block.node.replaceChildren(...nodes);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #seen(entries) {
    for (const entry of entries) {
      const block = this.#blockOf.get(entry.target);
      if (!block) continue;
      if (entry.isIntersecting) this.#fill(block);
      else if (block.filled) {
        block.height = block.node.offsetHeight;
        block.filled = false;
        block.node.replaceChildren();
        this.#reserve(block);
      }
    }
  }
}
