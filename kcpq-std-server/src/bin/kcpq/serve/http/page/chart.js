// What happened in the last minutes, as lines.

import { plain, show } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 100;
/** Seconds: the axis begins with the first and grows to the second. */
const SHORTEST = 60;
const LONGEST = 300;
/** Seconds without a point: the line has a gap. */
const GAP = 5;

const svg = (name, attributes, parent) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
};

const html = (name, className, parent, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  parent?.append(element);
  return element;
};

/** The next number that is round. */
const round = (value) => {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((digit) => digit * power >= value * 0.9999) * power;
};

export class Chart {
  #points = [];
  #format;
  #title;
  #least;
  #series;
  #figure;
  #plot;
  #svg;
  #cursor;
  #top;
  #begin;
  #read = null;

  /** `series` has a name for each value of a point; `least` is the least that the height stands for. */
  constructor(parent, title, series, format, least) {
    [this.#title, this.#format, this.#least] = [title, format, least];
    this.#figure = html("figure", "card chart", parent);
    const caption = html("figcaption", "", this.#figure);
    html("h2", "", caption, title);
    this.#plot = html("div", "plot", this.#figure);
    this.#svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.#plot);
    for (const y of [0, HEIGHT / 2, HEIGHT]) svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y }, this.#svg);
    this.#series = series.map((name, index) => {
      const className = ["first", "second"][index];
      const value = html("span", `value ${className}`, caption, name);
      const number = document.createElement("b");
      value.prepend(number);
      show(number, format(null));
      const area = index === 0 ? svg("path", { class: `area ${className}` }, this.#svg) : null;
      return { name, number, area, line: svg("path", { class: className }, this.#svg) };
    });
    this.#cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT }, this.#svg);
    this.#top = html("span", "top", this.#plot);
    const axis = html("div", "axis", this.#figure);
    this.#begin = html("span", "", axis);
    html("span", "", axis, "now");
    this.#plot.addEventListener("pointermove", (event) => {
      const box = this.#plot.getBoundingClientRect();
      this.#read = (event.clientX - box.left) / box.width;
      this.#draw();
    });
    this.#plot.addEventListener("pointerleave", () => {
      this.#read = null;
      this.#draw();
    });
  }

  /** The values at a time in seconds; those that are not known are null. */
  add(time, values) {
    this.#points.push({ time, values });
    while (this.#points[0].time < time - LONGEST - GAP) this.#points.shift();
    this.#draw();
  }

  #draw() {
    const last = this.#points.at(-1);
    if (!last) return;
    const span = Math.min(Math.max(last.time - this.#points[0].time, SHORTEST), LONGEST);
    const x = (time) => (1 - (last.time - time) / span) * WIDTH;
    const shown = this.#points.filter((point) => point.time >= last.time - span);
    const greatest = round(Math.max(this.#least, ...shown.flatMap((point) => point.values)));
    const y = (value) => HEIGHT * (1 - value / greatest);
    this.#top.textContent = plain(this.#format(greatest));
    this.#begin.textContent = span < 120 ? `${Math.round(span)} s ago` : `${Math.round(span / 60)} min ago`;

    // The point that the pointer is at, or the last one.
    const wanted = this.#read === null ? last.time : last.time - span * (1 - this.#read);
    const read = shown.reduce((a, b) => (Math.abs(b.time - wanted) < Math.abs(a.time - wanted) ? b : a));
    this.#plot.classList.toggle("reads", this.#read !== null);
    this.#cursor.setAttribute("x1", x(read.time));
    this.#cursor.setAttribute("x2", x(read.time));
    this.#figure.dataset.value = read.values[0] ?? "";

    const spoken = this.#series.map(({ name, number, area, line }, index) => {
      const runs = [];
      let before = null;
      for (const { time, values } of shown) {
        if (values[index] === null) {
          before = null;
          continue;
        }
        if (before === null || time - before > GAP) runs.push([]);
        runs.at(-1).push(`${x(time).toFixed(1)} ${y(values[index]).toFixed(1)}`);
        before = time;
      }
      line.setAttribute("d", runs.map((run) => `M${run.join("L")}`).join(""));
      const foot = (point) => `${point.split(" ")[0]} ${HEIGHT}`;
      area?.setAttribute("d", runs.map((run) => `M${foot(run[0])}L${run.join("L")}L${foot(run.at(-1))}Z`).join(""));
      show(number, this.#format(read.values[index]));
      return `${name} ${plain(this.#format(last.values[index]))}`;
    });
    this.#svg.setAttribute("aria-label", `${this.#title}: ${spoken.join(", ")}`);
  }
}
