// A table of which one page is here and the rest at the server: what is sorted, searched and turned is asked for there.

import { show } from "./format.js";

const LENGTH = 20;
/** Milliseconds without a key before what was typed is asked for. */
const PAUSE = 250;

export class Table {
  #section;
  #columns;
  #body;
  #heads = [];
  #pages;
  #where;
  #empty;
  #asked = { search: "", offset: 0 };
  #total = 0;
  #onAsk;

  /**
   * `columns` have a title, the name by which they are sorted (if they can be), whether they begin with the least, and a
   * function that fills a cell from a row. `onAsk` is called when something else is wanted.
   */
  constructor(section, columns, sort, onAsk) {
    [this.#section, this.#columns, this.#onAsk] = [section, columns, onAsk];
    Object.assign(this.#asked, sort);
    const wide = document.createElement("div");
    wide.className = "wide";
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-labelledby", section.getAttribute("aria-labelledby"));
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const column of columns) head.append(this.#head(column));
    this.#body = table.createTBody();
    this.#empty = document.createElement("p");
    this.#empty.className = "empty";
    this.#empty.textContent = "None.";
    wide.append(table);
    section.append(wide, this.#empty, this.#turns());

    let typing;
    for (const input of section.querySelectorAll("input, select")) {
      input.addEventListener("input", () => {
        clearTimeout(typing);
        const ask = () => this.#ask({ [input.name]: input.value, offset: 0 });
        typing = setTimeout(ask, input.type === "search" ? PAUSE : 0);
      });
    }
    this.#mark();
  }

  /** What is asked of the server, each name after a prefix. */
  query(prefix) {
    const asked = { ...this.#asked, limit: LENGTH };
    return Object.entries(asked).filter(([, value]) => value !== "").map(([name, value]) => [prefix + name, value]);
  }

  /** Shows a page. */
  fill(rows, total, offset) {
    this.#total = total;
    if (rows.length === 0 && total > 0 && offset > 0) {
      // The last page has gone.
      this.#ask({ offset: Math.floor((total - 1) / LENGTH) * LENGTH });
      return;
    }
    while (this.#body.rows.length > rows.length) this.#body.deleteRow(-1);
    rows.forEach((row, index) => {
      const line = this.#body.rows[index] ?? this.#line();
      this.#columns.forEach((column, at) => column.fill(line.cells[at], row));
    });
    this.#empty.hidden = rows.length > 0;
    this.#section.querySelector(".count").textContent = total.toLocaleString("en");
    this.#pages.hidden = total <= LENGTH;
    this.#where.textContent = `${offset + 1}\u2013${offset + rows.length} of ${total.toLocaleString("en")}`;
    const [back, on] = this.#pages.querySelectorAll("button");
    [back.disabled, on.disabled] = [offset === 0, offset + rows.length >= total];
  }

  #head(column) {
    const head = document.createElement("th");
    head.scope = "col";
    head.className = column.className ?? "";
    if (column.sort) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      button.addEventListener("click", () => {
        const usual = column.rises ? "asc" : "desc";
        const turned = usual === "asc" ? "desc" : "asc";
        const again = this.#asked.sort === column.sort && this.#asked.order === usual;
        this.#ask({ sort: column.sort, order: again ? turned : usual, offset: 0 });
      });
      head.append(button);
    } else {
      head.textContent = column.title;
    }
    this.#heads.push(head);
    return head;
  }

  #line() {
    const line = this.#body.insertRow();
    for (const column of this.#columns) line.insertCell().className = column.className ?? "";
    return line;
  }

  #turns() {
    this.#pages = document.createElement("div");
    this.#pages.className = "pages";
    this.#pages.hidden = true;
    this.#where = document.createElement("span");
    this.#pages.append(this.#where);
    for (const [text, step] of [["Back", -LENGTH], ["Next", LENGTH]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => {
        const offset = this.#asked.offset + step;
        if (offset >= 0 && offset < this.#total) this.#ask({ offset });
      });
      this.#pages.append(button);
    }
    return this.#pages;
  }

  #ask(change) {
    Object.assign(this.#asked, change);
    this.#mark();
    this.#onAsk();
  }

  #mark() {
    const { sort, order } = this.#asked;
    this.#columns.forEach((column, index) => {
      if (column.sort === sort) {
        this.#heads[index].setAttribute("aria-sort", order === "asc" ? "ascending" : "descending");
      } else {
        this.#heads[index].removeAttribute("aria-sort");
      }
    });
  }
}

/** A column of figures. */
export const figures = (title, sort, format, value, level) => ({
  title,
  sort,
  className: "number",
  fill: (cell, row) => {
    show(cell, format(value(row)));
    const grave = level?.(row);
    if (grave) cell.dataset.level = grave;
    else delete cell.dataset.level;
  },
});
