// Numbers as people read them.

const compact = (value, least, units, base) => {
  let unit = 0;
  while (Math.abs(value) >= least && unit + 1 < units.length) {
    value /= base;
    unit += 1;
  }
  const digits = value !== 0 && Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  const text = unit === 0 && Number.isInteger(value) ? String(value) : value.toFixed(digits);
  return [text.includes(".") ? text.replace(/\.?0+$/, "") : text, units[unit]];
};

const none = ["\u2013", ""];
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A count: "12,345", from a million on "1.23 M". */
export const count = (value) => {
  if (!isNumber(value)) return none;
  if (Math.abs(value) < 1e6) return [Math.round(value).toLocaleString("en"), ""];
  return compact(value / 1e6, 1000, ["M", "G", "T"], 1000);
};

/** A mean. */
export const decimal = (value) => (isNumber(value) ? compact(value, 1000, ["", "k", "M"], 1000) : none);

/** So many things a second. */
export const rate = (value) => {
  if (!isNumber(value)) return none;
  const [text, unit] = compact(value, 1000, ["", "k", "M", "G"], 1000);
  return [text, `${unit}/s`];
};

/** Bytes, in powers of 1000. */
export const bytes = (value) => (isNumber(value) ? compact(value, 1000, ["B", "kB", "MB", "GB", "TB"], 1000) : none);

/** Bytes a second. */
export const byteRate = (value) => {
  const [text, unit] = bytes(value);
  return [text, unit && `${unit}/s`];
};

/** A short time, given in seconds. */
export const span = (value) => {
  if (!isNumber(value)) return none;
  if (value >= 1) return compact(value, Infinity, ["s"], 1);
  return compact(value * 1e6, 1000, ["\u00b5s", "ms"], 1000);
};

/** A share. */
export const percent = (value) => {
  if (!isNumber(value)) return none;
  const text = value === 0 ? "0" : value < 0.0005 ? "<0.1" : (value * 100).toFixed(value < 0.1 ? 1 : 0);
  return [text, "%"];
};

/** A long time, given in seconds: its two largest units. */
export const age = (value) => {
  if (!isNumber(value)) return none;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => value >= length);
  if (first === -1) return ["0 s", ""];
  let rest = Math.floor(value);
  const parts = units.slice(first, first + 2).map(([unit, length]) => {
    const part = Math.floor(rest / length);
    rest -= part * length;
    return part || length === units[first][1] ? `${part} ${unit}` : "";
  });
  return [parts.join(" ").trim(), ""];
};

/** Shows a figure with its unit, if that changes anything. */
export const show = (element, [text, unit]) => {
  const whole = unit ? `${text} ${unit}` : text;
  if (element.dataset.shows === whole) return;
  element.dataset.shows = whole;
  element.textContent = text;
  if (unit) {
    const small = document.createElement("span");
    small.className = "unit";
    small.textContent = unit;
    element.append("\u200a", small);
  }
};

/** The same as one text. */
export const plain = ([text, unit]) => (unit ? `${text} ${unit}` : text);
