// A live chart of whatever numbers are published: one line for each subject. /telemetry.html?subject=sensors.%3E
//
// A message is a number, or JSON that has one, as text. Or bytes: &binary=int32,4,0.001 says of which type, from which byte on, big
// endian, and by what it is multiplied.

import { show, tuneIn } from "./tuned.js";

/** Milliseconds that are shown, how often, and how many subjects. */
const SPAN = 60_000;
const PACE = 250;
const MOST = 12;

const canvas = document.querySelector("#canvas");
const paper = canvas.getContext("2d");
const series = new Map(); // subject -> [[time, value]]
let [messages, strange] = [0, 0];

const binary = new URLSearchParams(location.search).get("binary")?.split(",");

/** The number among the bytes of a message. */
const numberAt = ({ payload }, [type, at, factor = "1"]) => {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const read = { int8: "getInt8", int16: "getInt16", int32: "getInt32", uint8: "getUint8", uint16: "getUint16",
    uint32: "getUint32", float32: "getFloat32", float64: "getFloat64" }[type];
  try {
    return view[read](Number(at)) * Number(factor);
  } catch {
    return undefined; // there is no such type, or the message is shorter
  }
};

/** The number in a message: it is one, or the first that its JSON has. */
const numberIn = (message) => {
  if (binary) return numberAt(message, binary);
  const text = message.text().trim();
  if (text !== "" && Number.isFinite(Number(text))) return Number(text);
  try {
    return Object.values(JSON.parse(text)).find((value) => typeof value === "number");
  } catch {
    return undefined;
  }
};

const take = (message) => {
  messages += 1;
  const value = numberIn(message);
  if (value === undefined || (!series.has(message.subject) && series.size >= MOST)) {
    strange += 1;
    return;
  }
  if (!series.has(message.subject)) series.set(message.subject, []);
  series.get(message.subject).push([performance.now() - (message.age ?? 0), value]);
};

const colour = (index) => `hsl(${(index * 137 + 170) % 360} 65% 50%)`;

const draw = () => {
  const [width, height, now] = [canvas.width, canvas.height, performance.now()];
  for (const [subject, points] of series) {
    while (points.length > 1 && points[1][0] < now - SPAN) points.shift();
    if (points[points.length - 1][0] < now - SPAN) series.delete(subject);
  }
  const values = [...series.values()].flat().map(([, value]) => value);
  const [least, most] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const room = (most - least) * 0.1 || Math.abs(most) * 0.1 || 1;
  const y = (value) => height - ((value - least + room) / (most - least + 2 * room)) * height;
  const x = (time) => width - ((now - time) / SPAN) * width;
  const style = getComputedStyle(document.body);
  paper.clearRect(0, 0, width, height);
  paper.font = `20px ${style.fontFamily}`;
  paper.fillStyle = style.color;
  if (values.length > 0) {
    paper.fillText(most.toPrecision(4), 8, y(most) - 6);
    paper.fillText(least.toPrecision(4), 8, y(least) + 24);
  }
  [...series.values()].forEach((points, index) => {
    paper.strokeStyle = colour(index);
    paper.lineWidth = 3;
    paper.beginPath();
    points.forEach(([time, value], at) => paper[at === 0 ? "moveTo" : "lineTo"](x(time), y(value)));
    paper.stroke();
  });
  const last = [...series].map(([subject, points]) => [subject, points[points.length - 1][1].toPrecision(4)]);
  show({ ...Object.fromEntries(last), messages: messages.toLocaleString(), ...(strange ? { "not shown": strange } : {}) });
};

setInterval(draw, PACE);
tuneIn("sensors.>", take, { latest: true });
