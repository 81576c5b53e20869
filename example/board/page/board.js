// The table: which rows there are, in which order, and what they add up to.

import { make } from "./cells.js";
import { count, money } from "./format.js";
import { Row, columns } from "./row.js";

const byId = (id) => document.getElementById(id);

export class Board {
  #role;
  #api;
  #say;
  #watch;
  #unwatch;
  #ids = null; // the list of items, once it is known
  #items = new Map(); // id → the newest row
  #rows = new Map(); // id → Row

  constructor({ role, api, say, watch, unwatch }) {
    this.#api = api;
    this.#say = say;
    this.#watch = watch;
    this.#unwatch = unwatch;
    this.setRole(role);
  }

  /** Rebuilds the table as somebody else sees it. */
  setRole(role) {
    this.#role = role;
    for (const item of this.#items.values()) {
      forget(item); // what the new role may see comes with its own rows
    }
    byId("head").replaceChildren(...columns(role).map(heading));
    byId("rows").replaceChildren();
    this.#rows.clear();
    this.#arrange();
  }

  /** Takes the list of items: watches what is new, drops what is gone. */
  setList(ids) {
    const known = this.#ids;
    this.#ids = ids;
    for (const id of known ?? []) {
      if (!ids.includes(id)) {
        this.#drop(id);
      }
    }
    for (const id of ids) {
      if (!known?.includes(id)) {
        this.#watch(id);
      }
    }
    this.#arrange();
  }

  /** Takes one item. Returns whether it was news. */
  setItem(item) {
    if (!this.#ids?.includes(item.id)) {
      return false; // deleted while its row was on the way
    }
    if (this.#role !== "manager") {
      forget(item); // fetched a moment ago, for who we were then
    }
    const before = this.#items.get(item.id);
    this.#items.set(item.id, item);
    this.#arrange();
    this.#rows.get(item.id).show(item);
    this.#total();
    if (before === undefined) {
      this.#rows.get(item.id).flash();
    }
    return before?.writtenAt !== item.writtenAt;
  }

  #drop(id) {
    this.#unwatch(id);
    const name = this.#items.get(id)?.name;
    this.#items.delete(id);
    const element = this.#rows.get(id)?.element;
    this.#rows.delete(id);
    if (element?.contains(document.activeElement)) {
      const next = element.nextElementSibling ?? element.previousElementSibling;
      next?.querySelector("input, button")?.focus(); // else the keyboard is nowhere
    }
    element?.remove();
    if (name !== undefined) {
      this.#say(`“${name}” was deleted.`);
    }
  }

  // Puts every row that is known where the list has it. Rows in place already
  // are not touched, so focus and selection stay.
  #arrange() {
    let last = null;
    for (const id of this.#ids ?? []) {
      const item = this.#items.get(id);
      if (!item) {
        continue;
      }
      const { element } = this.#rows.get(id) ?? this.#make(item);
      const place = last ? last.nextElementSibling : byId("rows").firstElementChild;
      if (place !== element) {
        byId("rows").insertBefore(element, place);
      }
      last = element;
    }
    byId("empty").hidden = this.#ids === null || this.#ids.length > 0;
    this.#total();
  }

  #make(item) {
    const row = new Row({ id: item.id, role: this.#role, api: this.#api, say: this.#say });
    row.show(item);
    this.#rows.set(item.id, row);
    return row;
  }

  #total() {
    const items = [...this.#items.values()];
    const sum = (f) => items.reduce((total, item) => total + f(item), 0);
    byId("units").textContent = count(sum((item) => item.quantity));
    byId("units-note").textContent = items.length === 1 ? "of 1 item" : `of ${items.length} items`;
    byId("value").textContent = money(sum((item) => item.quantity * item.priceCents));
  }
}

function heading([name, text]) {
  return make("th", { className: name, scope: "col", role: "columnheader" },
    text || make("span", { className: "unseen", textContent: "Actions" }));
}

function forget(item) {
  delete item.costCents;
  delete item.marginPercent;
}
