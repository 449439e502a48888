// @ts-check
/** What stands in the top bar: is the page live, and which theme. */

import { icon } from "../dom.js";
import { live } from "../live.js";
import { toast } from "../toasts.js";

const CONNECTION = { connecting: "Connecting", open: "Live", reconnecting: "Reconnecting" };

/** `<connection-state>`: a page that is not live says so. */
class ConnectionState extends HTMLElement {
  connectedCallback() {
    live.addEventListener("state", this.#show);
    live.addEventListener("signed-out", this.#signedOut);
    this.#show();
  }

  disconnectedCallback() {
    live.removeEventListener("signed-out", this.#signedOut);
    live.removeEventListener("state", this.#show);
  }

  /** To the sign-in and back; only said where something is being filled in, which must not be lost. */
  #signedOut = () => {
    if (!document.querySelector("create-form, dialog[open]")) {
      location.assign(`/login/?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    toast("Your session has ended.", { kind: "danger", hint: "Sign in again in another tab, then reload this page." });
  };

  #show = () => {
    this.dataset.state = live.state;
    this.title = live.state === "open"
      ? "Changes show by themselves"
      : "What you see may be old; it refreshes when the connection is back";
    const text = this.querySelector(".connection-text");
    if (text) text.textContent = CONNECTION[live.state];
  };
}

const THEMES = ["system", "light", "dark"];
const PICTURES = { system: "system", light: "sun", dark: "moon" };

/** `<theme-switch>`: the system's, light, dark; kept in this browser. */
class ThemeSwitch extends HTMLElement {
  connectedCallback() {
    const button = this.querySelector("button");
    button?.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(this.#theme()) + 1) % THEMES.length];
      if (next === "system") {
        localStorage.removeItem("slipway.theme");
        delete document.documentElement.dataset.theme;
      } else {
        localStorage.setItem("slipway.theme", next);
        document.documentElement.dataset.theme = next;
      }
      this.#show();
      document.dispatchEvent(new CustomEvent("slipway:theme"));
    });
    this.#show();
  }

  #theme() {
    return document.documentElement.dataset.theme ?? "system";
  }

  #show() {
    const theme = /** @type {"system"|"light"|"dark"} */ (this.#theme());
    const button = this.querySelector("button");
    button?.replaceChildren(icon(PICTURES[theme]));
    button?.setAttribute("aria-label", `Theme: ${theme}`);
    button?.setAttribute("title", `Theme: ${theme}`);
  }
}

customElements.define("connection-state", ConnectionState);
customElements.define("theme-switch", ThemeSwitch);
