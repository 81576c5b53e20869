// The table: which rows there are, in which order, and what they add up to.

import { make } from "./cells.js";
import { count, money } from "./format.js";
import { Row, columns } from "./row.js";

const byId = (id) => document.getElementById(id);

export class Board {
  #page;
  #arrived;
  #members; // of the list, once it is known
  #rows = new Map(); // id → Row

  /** @param {{role, sync, api, say, arrived: (item) => void}} page  arrived is told of rows that have come */
  constructor({ arrived, ...page }) {
    this.#page = page;
    this.#arrived = arrived;
    byId("head").replaceChildren(...columns(page.role).map(heading));
    byId("rows").replaceChildren();
    page.sync.subscribe("board", "all", (update) => this.#receive(update));
    this.#arrange();
  }

  /** Lets go of all rows; somebody else's are shown next. */
  end() {
    this.#rows.clear();
  }

  // The list is an entity like any other; each of its rows names an item. Those that
  // are new are watched, those that are gone are not.
  #receive({ rows, state, error }) {
    if (state === "denied") {
      this.#page.say(`The list of items is not for us to see: ${error.message}.`, "error");
    }
    if (!rows || rows === this.#members) {
      return;
    }
    this.#members = rows;
    const ids = new Set(rows.map((member) => member.id));
    for (const id of this.#rows.keys()) {
      if (!ids.has(id)) {
        this.#drop(id);
      }
    }
    for (const member of rows) {
      if (!this.#rows.has(member.id)) {
        this.#rows.set(member.id, new Row(member, this.#page, (row, news) => this.#changed(row, news)));
      }
    }
    this.#arrange();
  }

  #changed(row, news) {
    if (this.#rows.get(row.id) !== row) {
      return; // the answer to an edit, after the row is gone
    }
    if (row.state === "gone") {
      this.#remove(row); // the list will say so too
    } else if (!row.element.isConnected) {
      this.#arrange();
    }
    if (news) {
      this.#arrived(news);
    }
    this.#total();
  }

  #drop(id) {
    const row = this.#rows.get(id);
    row.end();
    this.#remove(row);
    this.#rows.delete(id);
  }

  #remove({ element }) {
    if (!element.isConnected) {
      return;
    }
    const name = element.querySelector(".name .field")?.value ?? element.querySelector(".name .text")?.textContent;
    if (element.contains(document.activeElement)) {
      neighbour(element)?.focus(); // else the keyboard is nowhere
    }
    element.remove();
    this.#page.say(name ? `“${name}” was deleted.` : "An item was deleted.");
  }

  // Puts every row that is known where the list has it. Rows in place already
  // are not touched, so focus and selection stay.
  #arrange() {
    let last = null;
    for (const { id } of this.#members ?? []) {
      const { element, state } = this.#rows.get(id);
      if (state === "unknown" || state === "gone") {
        continue;
      }
      const place = last ? last.nextElementSibling : byId("rows").firstElementChild;
      if (place !== element) {
        byId("rows").insertBefore(element, place);
      }
      last = element;
    }
    byId("empty").hidden = !this.#members || this.#members.length > 0;
    this.#total();
  }

  #total() {
    const items = [...this.#rows.values()].map((row) => row.item).filter(Boolean);
    const sum = (f) => items.reduce((total, item) => total + f(item), 0);
    byId("units").textContent = count(sum((item) => item.quantity));
    byId("units-note").textContent = items.length === 1 ? "of 1 item" : `of ${items.length} items`;
    byId("value").textContent = money(sum((item) => item.quantity * item.priceCents));
  }
}

/** The first thing to use in the rows after a row, or else before it. */
function neighbour(element) {
  const rows = [...element.parentElement.children];
  const i = rows.indexOf(element);
  return [...rows.slice(i + 1), ...rows.slice(0, i).reverse()]
    .map((row) => row.querySelector("input, button"))
    .find(Boolean); // a row that is denied has none
}

function heading({ className, heading }) {
  return make("th", { className, scope: "col", role: "columnheader" },
    heading || make("span", { className: "unseen", textContent: "Actions" }));
}
