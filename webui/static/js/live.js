// @ts-check
/**
 * One websocket for everything that moves. Topics are subscribed while somebody wants them; after a
 * break the connection comes back by itself and every topic is subscribed again, which brings a
 * fresh snapshot: a reader never has to know that messages were missed.
 */

/** @typedef {{topic: string, type: string, data: any, rev?: number}} Message */
/** @typedef {(message: Message) => void} Handler */
/** @typedef {"connecting"|"open"|"reconnecting"} State */

const FIRST_DELAY = 400;
const LONGEST_DELAY = 10_000;
const OPENS_WITHIN = 8_000; // a browser whose host's links change may never hear of its handshake again
const HIDDEN_AFTER = 30_000;
const SIGNED_OUT = 4401; // the server's close code for a session that has ended
const PAUSABLE = /^(stats|host)/;

class Live extends EventTarget {
  /** @type {WebSocket|null} */
  #socket = null;
  /** @type {Map<string, Set<Handler>>} */
  #handlers = new Map();
  /** @type {Map<string, object>} */
  #options = new Map();
  /** Who waits for the snapshot of a topic that others hear already. @type {Map<string, Set<Handler>>} */
  #newcomers = new Map();
  /** Topics whose snapshot has come on this connection. @type {Set<string>} */
  #heard = new Set();
  /** @type {Set<string>} */
  #asking = new Set();
  /** @type {State} */
  #state = "connecting";
  #attempts = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #retry;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #hiding;
  #paused = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#visibility());
    window.addEventListener("online", () => this.#retryNow());
  }

  get state() {
    return this.#state;
  }

  connect() {
    if (this.#socket) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/live/`);
    this.#socket = socket;
    const opening = setTimeout(() => socket.close(), OPENS_WITHIN);
    socket.addEventListener("open", () => {
      clearTimeout(opening);
      this.#opened();
    });
    socket.addEventListener("message", (event) => this.#received(event.data));
    socket.addEventListener("close", (event) => {
      clearTimeout(opening);
      this.#closed(socket, event.code);
    });
  }

  /**
   * Hear a topic; `options` go along with the subscription (logs: {tail, streams}).
   * @param {string} topic @param {Handler} handler @param {object} [options]
   * @returns {() => void} stops hearing it
   */
  subscribe(topic, handler, options) {
    const handlers = this.#handlers.get(topic) ?? new Set();
    handlers.add(handler);
    this.#handlers.set(topic, handlers);
    if (options) this.#options.set(topic, options);
    // Asked again even when already heard: the answer is the snapshot that the newcomer needs. Before
    // the first one nobody has it, so it is everybody's.
    if (this.#heard.has(topic)) this.#newcomers.set(topic, (this.#newcomers.get(topic) ?? new Set()).add(handler));
    if (!this.#asking.size) queueMicrotask(() => this.#askAll());
    this.#asking.add(topic);
    return () => {
      handlers.delete(handler);
      this.#newcomers.get(topic)?.delete(handler);
      if (handlers.size) return;
      this.#handlers.delete(topic);
      this.#options.delete(topic);
      this.#heard.delete(topic);
      this.#ask("unsubscribe", [topic]);
    };
  }

  #askAll() {
    const topics = [...this.#asking].filter((topic) => this.#handlers.has(topic));
    this.#asking.clear();
    this.#ask("subscribe", topics);
  }

  /** @param {"subscribe"|"unsubscribe"} action @param {string[]} topics */
  #ask(action, topics) {
    if (!topics.length || this.#socket?.readyState !== WebSocket.OPEN) return;
    const options = Object.fromEntries(
      topics.filter((topic) => this.#options.has(topic)).map((topic) => [topic, this.#options.get(topic)]),
    );
    this.#socket.send(JSON.stringify({ action, topics, ...(action === "subscribe" ? { options } : {}) }));
  }

  #opened() {
    this.#attempts = 0;
    this.#become("open");
    const topics = [...this.#handlers.keys()];
    this.#ask("subscribe", this.#paused ? topics.filter((topic) => !PAUSABLE.test(topic)) : topics);
  }

  /** @param {string} text */
  #received(text) {
    /** @type {Message} */
    const message = JSON.parse(text);
    const newcomers = message.type === "snapshot" ? this.#newcomers.get(message.topic) : null;
    if (newcomers) this.#newcomers.delete(message.topic);
    if (message.type === "snapshot") this.#heard.add(message.topic);
    for (const handler of [...(newcomers?.size ? newcomers : this.#handlers.get(message.topic) ?? [])]) {
      try {
        handler(message);
      } catch (error) {
        console.error("live", message.topic, error);
      }
    }
  }

  /** @param {WebSocket} socket @param {number} code */
  #closed(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#newcomers.clear();
    this.#heard.clear();
    this.#become("reconnecting");
    if (code === SIGNED_OUT) {
      this.dispatchEvent(new CustomEvent("signed-out"));
      return;
    }
    // Jitter, so that many browsers do not come back in the same instant.
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempts) * (0.7 + Math.random() * 0.6);
    this.#attempts += 1;
    this.#retry = setTimeout(() => this.connect(), delay);
  }

  #retryNow() {
    if (this.#socket) return;
    clearTimeout(this.#retry);
    this.connect();
  }

  /** A tab that nobody looks at gives its stats up after a while. */
  #visibility() {
    clearTimeout(this.#hiding);
    const topics = [...this.#handlers.keys()].filter((topic) => PAUSABLE.test(topic));
    if (document.hidden) {
      this.#hiding = setTimeout(() => {
        this.#paused = true;
        this.#ask("unsubscribe", topics);
      }, HIDDEN_AFTER);
    } else {
      if (this.#paused) {
        this.#paused = false;
        this.#ask("subscribe", topics);
      }
      this.#retryNow();
    }
  }

  /** @param {State} state */
  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}

export const live = new Live();

/** Handlers that end with the element: `listen(this, topic, …)` in connectedCallback, `unlisten(this)` after. */
/** @type {WeakMap<Element, Array<() => void>>} */
const owned = new WeakMap();

/** @param {Element} owner @param {string} topic @param {Handler} handler @param {object} [options] */
export function listen(owner, topic, handler, options) {
  const stop = live.subscribe(topic, handler, options);
  owned.set(owner, [...(owned.get(owner) ?? []), stop]);
}

/** @param {Element} owner */
export function unlisten(owner) {
  for (const stop of owned.get(owner) ?? []) stop();
  owned.delete(owner);
}
