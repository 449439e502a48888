// @ts-check
/** Typing for a process that has no terminal: what a terminal would do with a line before it is sent. */

const encoder = new TextEncoder();

export class LineInput {
  #line = "";
  #echo;
  #send;
  #end;

  /**
   * @param {(text: string) => void} echo shows what is typed
   * @param {(data: Uint8Array) => void} send
   * @param {() => void} end says that no more input comes
   */
  constructor(echo, send, end) {
    this.#echo = echo;
    this.#send = send;
    this.#end = end;
  }

  /** @param {string} text as it was typed or pasted */
  feed(text) {
    if (text.startsWith("\x1b")) return; // arrows and the like
    for (const character of text.replaceAll("\r\n", "\r")) this.#type(character);
  }

  /** @param {string} character */
  #type(character) {
    if (character === "\r" || character === "\n") {
      this.#echo("\r\n");
      this.#flush("\n");
    } else if (character === "\x7f" || character === "\b") {
      if (this.#line) this.#echo("\b \b");
      this.#line = [...this.#line].slice(0, -1).join("");
    } else if (character === "\x03" || character === "\x15") {
      if (this.#line) this.#echo("\r\n");
      this.#line = "";
    } else if (character === "\x04") {
      if (this.#line) this.#flush("");
      else this.#end();
    } else if (character < " " && character !== "\t") {
      this.#send(encoder.encode(character)); // perhaps the keys that detach
    } else {
      this.#line += character;
      this.#echo(character);
    }
  }

  /** @param {string} ending */
  #flush(ending) {
    const whole = this.#line + ending;
    this.#line = "";
    this.#send(encoder.encode(whole));
  }
}
