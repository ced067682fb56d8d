// What the pages of telemetry and of video have in common: a subscription that the address names, and how it is with it.

import { connect } from "./kcpq.js";

const query = new URLSearchParams(location.search);
const state = document.querySelector("#state");

const say = (kind, text) => {
  [state.dataset.state, state.textContent] = [kind, text];
};

/** Subscribes to `?subject=`, with the token behind `#`, which no server is told by an address. */
export const tuneIn = async (otherwise, take, options) => {
  const subject = query.get("subject") ?? otherwise;
  document.querySelector("#about").textContent = subject;
  try {
    const client = await connect({ name: `page: ${document.title}`, token: location.hash.slice(1) || undefined });
    client.addEventListener("disconnect", () => say("lost", "Connecting again"));
    client.addEventListener("connect", () => say("live", "Live"));
    client.addEventListener("ended", ({ detail }) => say("lost", detail.why.message));
    client.addEventListener("close", () => say("lost", "Closed"));
    await client.subscribe(subject, take, options);
    say("live", "Live");
  } catch (error) {
    say("lost", error.message);
  }
};

/** Shows figures by name. */
export const show = (figures) => {
  const list = document.querySelector("#figures");
  const parts = Object.entries(figures).flatMap(([name, value]) => {
    const [term, figure] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, figure.textContent] = [name, value];
    const pair = document.createElement("div");
    pair.className = "card";
    pair.append(term, figure);
    return pair;
  });
  list.replaceChildren(...parts);
};
