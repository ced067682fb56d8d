// What the figures at the top are made of, and why messages were dropped, in words.

import { age, bytes, count, decimal, percent, plain, rate, show, span } from "./format.js";

/** Why messages were dropped, as `/varz` calls it. */
const REASONS = {
  slow: "The subscriber's queue was full",
  memory: "All queues together were full",
  stuck: "The subscriber took nothing, and gave way to others",
  too_large: "Larger than the subscriber takes",
  closed: "The session ended first",
  relay: "The way between two threads was full",
  expired: "Time to live was over",
  denied: "Its publisher may not publish that",
  excess: "Its publisher sent more than it may",
  refused: "The subject was not valid",
};

const sum = (values) => values.reduce((all, value) => all + value, 0);

/** Messages dropped for whatever reason. */
export const dropped = (counts) => sum(Object.values(counts));

/** How much happened each second between two documents of `/varz`; null if that cannot be said. */
export const between = (before, now) => {
  const seconds = before && now.uptime_seconds - before.uptime_seconds;
  if (!(seconds > 0.2) || before.start !== now.start) return null;
  return (value) => Math.max(value(now) - value(before), 0) / seconds;
};

/** How often values of a histogram were how great between two documents; null if that cannot be said. */
const counted = (before, now) => {
  if (!before || before.sum > now.sum) return null;
  const buckets = now.buckets.map(([upTo, count], index) => [upTo, count - before.buckets[index][1]]);
  const count = sum(buckets.map(([, many]) => many));
  return count > 0 ? { buckets, count, sum: now.sum - before.sum } : null;
};

/** The value below which a share of them lies, as Prometheus estimates it. */
const quantile = (histogram, share) => {
  let rank = share * histogram.count;
  let from = 0;
  for (const [upTo, count] of histogram.buckets) {
    if (upTo === null) break;
    if (count >= rank && count > 0) return from + ((upTo - from) * rank) / count;
    rank -= count;
    from = upTo;
  }
  return from;
};

/** How long half of the messages waited at most, and 99 of a hundred. */
export const waits = (before, now) => {
  const histogram = counted(before?.queueing_seconds, now.queueing_seconds);
  return [0.5, 0.99].map((share) => histogram && quantile(histogram, share));
};

/** How grave it is that so great a share is lost. */
export const lossLevel = (share) => (share > 0.1 ? "bad" : share > 0.02 ? "warn" : "");

const FIGURES = [
  ["Sessions", (now) => [count(now.connections), `of ${plain(count(now.max_connections))}`]],
  ["Subscriptions", (now, per, before) => {
    const messages = per && counted(before.fan_out, now.fan_out);
    const mean = messages && messages.sum / messages.count;
    return [count(now.subscriptions), messages ? `${plain(decimal(mean))} for each message` : ""];
  }],
  ["Round trip", (now) => [span(now.rtt_seconds.p50), `99 % within ${plain(span(now.rtt_seconds.p99))}`]],
  ["Lost on the way", (now, per) => {
    const sent = per?.((varz) => varz.transport.segments_out);
    const share = sent > 0 ? per((varz) => varz.transport.lost) / sent : sent === 0 ? 0 : null;
    return [percent(share), "of segments sent", lossLevel(share)];
  }],
  ["Waits for subscribers", (now) => {
    const share = now.pending_bytes / now.max_pending_total;
    const level = share > 0.5 ? "bad" : share > 0.1 ? "warn" : "";
    return [bytes(now.pending_bytes), `of ${plain(bytes(now.max_pending_total))}`, level];
  }],
  ["Dropped", (now, per) => {
    const drops = per?.((varz) => dropped(varz.dropped));
    return [rate(drops), `${plain(count(dropped(now.dropped)))} in all`, drops > 0 ? "bad" : ""];
  }],
];

export class Figures {
  #cells;

  constructor(list) {
    this.#cells = FIGURES.map(([title, figure]) => {
      const box = document.createElement("div");
      const [name, value, more] = ["dt", "dd", "dd"].map((tag) => document.createElement(tag));
      name.textContent = title;
      more.className = "more";
      value.textContent = "\u2013";
      more.textContent = "\u00a0";
      box.append(name, value, more);
      list.append(box);
      return { figure, value, more };
    });
  }

  fill(now, per, before) {
    for (const { figure, value, more } of this.#cells) {
      const [shown, text, level] = figure(now, per, before);
      show(value, shown);
      more.textContent = text || "\u00a0";
      value.dataset.level = level ?? "";
    }
  }
}

/** The table of drops: only what there was. */
export const fillDrops = (body, now, per) => {
  const rows = Object.entries(REASONS).map(([name, words]) => [words, (varz) => varz.dropped[name]]);
  rows.push(["The kernel had no room for the datagram", (varz) => varz.udp_receive_dropped ?? 0]);
  rows.push(["The system refused to send the datagram", (varz) => varz.unsendable]);
  const there = rows.filter(([, value]) => value(now) > 0);
  while (body.rows.length > there.length) body.deleteRow(-1);
  there.forEach(([words, value], index) => {
    let row = body.rows[index];
    if (!row) {
      row = body.insertRow();
      row.insertCell();
      row.insertCell().className = "number";
      row.insertCell().className = "number";
    }
    row.cells[0].textContent = words;
    const drops = per?.(value);
    show(row.cells[1], rate(drops));
    row.cells[1].dataset.level = drops > 0 ? "bad" : "";
    show(row.cells[2], count(value(now)));
  });
  return there.length > 0;
};

/** What the server is, in a line. */
export const about = (now) => {
  const threads = now.shards === 1 ? "1 thread" : `${now.shards} threads`;
  return `version ${now.version}, on ${now.listen.join(", ")}, ${threads}, up ${age(now.uptime_seconds)[0]}`;
};
