// The messages of a pattern, as they come: the newest of each subject, and of each its beginning.

import { bytes, show } from "./format.js";

/** So many stay on the page. */
const ROWS = 100;

export class Messages {
  #section;
  #body;
  #input;
  #stop;
  #status;
  #source = null;
  #leftOut = 0;

  constructor(section) {
    this.#section = section;
    this.#body = section.querySelector("tbody");
    this.#input = section.querySelector("input");
    this.#stop = section.querySelector("[name=stop]");
    this.#status = section.querySelector("[role=status]");
    section.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.watch(this.#input.value);
    });
    this.#stop.addEventListener("click", () => this.stop("Stopped."));
  }

  /** Shows itself if there is anything that may be watched. */
  allow(patterns) {
    this.#section.hidden = patterns.length === 0;
  }

  watch(pattern) {
    this.stop("Asking \u2026");
    this.#input.value = pattern;
    this.#body.replaceChildren();
    this.#leftOut = 0;
    const own = new EventSource(`messages?${new URLSearchParams({ pattern })}`);
    this.#source = own;
    this.#stop.hidden = false;
    own.addEventListener("watching", () => this.#say(`Nothing has come to ${pattern} yet.`));
    own.addEventListener("messages", (event) => this.#fill(pattern, JSON.parse(event.data)));
    own.addEventListener("refused", (event) => this.stop(`Not to be seen: ${JSON.parse(event.data).why}.`));
    own.addEventListener("full", () => this.stop("Another page has this one's place."));
    own.addEventListener("error", () => {
      if (own.readyState === EventSource.CLOSED) this.stop("That is no pattern, or there is no connection.");
    });
  }

  stop(words) {
    this.#source?.close();
    this.#source = null;
    this.#stop.hidden = true;
    this.#say(words);
  }

  #say(words) {
    if (this.#status.textContent !== words) this.#status.textContent = words;
  }

  #fill(pattern, { messages, left_out: leftOut }) {
    this.#section.querySelector(".wide").hidden = false;
    this.#leftOut += leftOut;
    const more = this.#leftOut > 0 ? `; ${this.#leftOut.toLocaleString("en")} more were not shown` : "";
    this.#say(`Watching ${pattern}${more}.`);
    for (const message of messages) this.#body.prepend(this.#row(message));
    while (this.#body.rows.length > ROWS) this.#body.deleteRow(-1);
  }

  #row(message) {
    const row = document.createElement("tr");
    const time = row.insertCell();
    time.textContent = new Date(message.time).toLocaleTimeString("en", { hour12: false, fractionalSecondDigits: 1 });
    const subject = row.insertCell();
    subject.className = "name";
    subject.textContent = message.subject;
    subject.title = message.subject;
    const size = row.insertCell();
    size.className = "number";
    show(size, bytes(message.size));
    const payload = row.insertCell();
    payload.className = message.hex === undefined ? "payload" : "payload hex";
    payload.textContent = message.text ?? message.hex;
    payload.title = payload.textContent;
    return row;
  }
}
