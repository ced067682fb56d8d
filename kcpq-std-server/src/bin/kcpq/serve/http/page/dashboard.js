// The page: listens to the server, and shows each look at it.

import { Chart } from "./chart.js";
import { about, between, dropped, Figures, fillDrops, lossLevel, waits } from "./figures.js";
import { age, byteRate, bytes, count, percent, rate, show, span } from "./format.js";
import { Messages } from "./messages.js";
import { figures, Table } from "./table.js";

const element = (id) => document.getElementById(id);

/** Milliseconds until the server is asked again when it refused. */
const AGAIN = 3000;

// --- what is on the page ---

const summary = new Figures(element("figures"));
const charts = element("charts");
const flow = new Chart(charts, "Messages", ["received", "delivered"], rate, 10);
const data = new Chart(charts, "Data", ["received", "delivered"], byteRate, 1000);
const queueing = new Chart(charts, "Wait in the server", ["median", "99 %"], span, 0.0001);
const trips = new Chart(charts, "Round trips", ["median", "99 %"], span, 0.001);

/** Who it is: the name it gave itself, or its address, and its identity. */
const fillClient = (cell, row) => {
  const address = row.ip.includes(":") ? `[${row.ip}]:${row.port}` : `${row.ip}:${row.port}`;
  const name = row.name || "unnamed";
  const more = row.authorized_user ? `${row.authorized_user}, ${address}` : address;
  if (cell.dataset.shows === name + more) return;
  cell.dataset.shows = name + more;
  const small = document.createElement("small");
  small.textContent = more;
  cell.replaceChildren(name, small);
  cell.title = `${name}, ${more}`;
  cell.classList.toggle("none", !row.name);
};

const KINDS = { original_with_key: "original, key", websocket: "WebSocket" };
const sessions = new Table(
  element("sessions"),
  [
    { title: "Client", sort: "name", rises: true, className: "name", fill: fillClient },
    { title: "Kind", fill: (cell, row) => show(cell, [KINDS[row.kind] ?? row.kind, ""]) },
    figures("Round trip", "rtt", span, (row) => row.rtt_seconds),
    figures("Lost", "loss", percent, (row) => row.loss, (row) => lossLevel(row.loss)),
    figures("From it", "rate_from", rate, (row) => row.in_msgs_rate),
    figures("To it", "rate_to", rate, (row) => row.out_msgs_rate),
    figures("Data to it", "byte_rate_to", byteRate, (row) => row.out_bytes_rate),
    figures("Waits", "pending", bytes, (row) => row.pending_bytes),
    figures("Dropped", "dropped", count, (row) => dropped(row.dropped), (row) => dropped(row.dropped) > 0 && "bad"),
    figures("Patterns", "subs", count, (row) => row.subscriptions),
    figures("Since", "uptime", age, (row) => row.uptime_seconds),
  ],
  { sort: "rate_to", order: "desc" },
  () => connect(),
);

const messages = new Messages(element("messages"));
let watchable = false;

/** The pattern; where its messages may be seen a button that shows them. */
const fillPattern = (cell, row) => {
  const shows = `${watchable} ${row.subject}`;
  if (cell.dataset.shows === shows) return;
  cell.dataset.shows = shows;
  if (!watchable) {
    cell.textContent = row.subject;
    return;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = row.subject;
  button.title = "Watch its messages";
  button.addEventListener("click", () => {
    messages.watch(row.subject);
    element("messages").scrollIntoView({ block: "nearest" });
  });
  cell.replaceChildren(button);
};

const patterns = new Table(
  element("patterns"),
  [
    {
      title: "Pattern",
      sort: "subject",
      rises: true,
      className: "name",
      fill: fillPattern,
    },
    figures("Subscribers", "subscribers", count, (row) => row.subscribers),
    figures("Messages", "rate", rate, (row) => row.msgs_rate),
  ],
  { sort: "subscribers", order: "desc" },
  () => connect(),
);

// --- one look ---

let before = null;

const fillSlow = (rows, most) => {
  const body = element("slow").tBodies[0];
  const there = rows.filter((row) => row.pending_bytes > 0 || row.dropped.slow > 0);
  while (body.rows.length > there.length) body.deleteRow(-1);
  there.forEach((row, index) => {
    let line = body.rows[index];
    if (!line) {
      line = body.insertRow();
      line.insertCell().className = "name";
      const share = document.createElement("span");
      share.className = "share";
      share.append(document.createElement("i"));
      line.insertCell().append(share);
      line.insertCell().className = "number";
      line.insertCell().className = "number";
    }
    fillClient(line.cells[0], row);
    line.cells[1].querySelector("i").style.width = `${Math.min((row.pending_bytes / most) * 100, 100)}%`;
    show(line.cells[2], bytes(row.pending_bytes));
    show(line.cells[3], count(row.dropped.slow));
    line.cells[3].dataset.level = row.dropped.slow > 0 ? "bad" : "";
  });
  element("slow").hidden = there.length === 0;
  element("slow-calm").hidden = there.length > 0;
};

const fill = ({ varz, connz, slow, subsz }) => {
  const per = between(before, varz);
  watchable = varz.http_subscribe.length > 0;
  messages.allow(varz.http_subscribe);
  element("name").textContent = varz.server_name;
  document.title = `${varz.server_name} \u2013 kcpq`;
  element("about").textContent = about(varz);
  if (per || !before || before.start !== varz.start) {
    summary.fill(varz, per, before);
    const drops = fillDrops(element("drops").tBodies[0], varz, per);
    element("drops").hidden = !drops;
    element("drops-calm").hidden = drops;
    const now = Date.parse(varz.now) / 1000;
    const both = (first, second) => (per ? [per(first), per(second)] : [null, null]);
    flow.add(now, both((look) => look.in_msgs, (look) => look.out_msgs));
    data.add(now, both((look) => look.in_bytes, (look) => look.out_bytes));
    queueing.add(now, per ? waits(before, varz) : [null, null]);
    trips.add(now, [varz.rtt_seconds.p50, varz.rtt_seconds.p99]);
    before = varz;
  }
  sessions.fill(connz.connections, connz.total, connz.offset);
  fillSlow(slow.connections, varz.max_pending);
  if (subsz) patterns.fill(subsz.subscriptions_list, subsz.total, subsz.offset);
};

// --- the connection ---

let source = null;
let again = null;

const say = (state, words) => {
  element("state").dataset.state = state;
  if (element("state").textContent !== words) element("state").textContent = words;
  document.body.toggleAttribute("data-stale", state === "lost" || state === "paused");
  const paused = state === "paused";
  element("pause").textContent = paused ? "Go on" : "Pause";
};

const close = () => {
  clearTimeout(again);
  source?.close();
  source = null;
};

const pause = (words) => {
  close();
  say("paused", words);
};

function connect() {
  close();
  const query = new URLSearchParams([...sessions.query("connz."), ...patterns.query("subsz.")]);
  const own = new EventSource(`live?${query}`);
  source = own;
  own.addEventListener("look", (event) => {
    fill(JSON.parse(event.data));
    say("live", "Live");
  });
  own.addEventListener("full", () => pause("Another page has this one's place"));
  own.addEventListener("gone", () => {
    close();
    say("lost", "A thread of the server does not answer");
    again = setTimeout(connect, AGAIN);
  });
  own.addEventListener("error", () => {
    say("lost", "No connection: trying again");
    if (own.readyState === EventSource.CLOSED) again = setTimeout(connect, AGAIN);
  });
}

element("pause").addEventListener("click", () => (source ? pause("Paused") : connect()));
connect();
