// One item: a row of the table, as the person looking may see and edit it.

import { notYet } from "./api.js";
import { Field, Text, flash, make } from "./cells.js";
import { amount, money, parseAmount, parseCount, parseText, percent } from "./format.js";
import { Optimistic } from "./optimistic.js";

const low = 5; // units

/** The columns that a role has, in order. */
export function columns(role) {
  const all = [
    { field: "name", className: "name", heading: "Item" },
    { field: "quantity", className: "quantity", heading: "Quantity" },
    { field: "priceCents", className: "price", heading: "Price" },
  ];
  if (role === "manager") {
    all.push(
      { field: "costCents", className: "cost", heading: "Unit cost" },
      { field: "marginPercent", className: "margin", heading: "Margin" },
      { field: "", className: "actions", heading: "" },
    );
  }
  return all;
}

export class Row {
  #id;
  #role;
  #api;
  #say;
  #changed;
  #optimistic = new Optimistic(() => this.#show());
  #parts = {}; // by field
  #cells = {}; // by field
  #private;
  #chip = make("span", { className: "chip" });
  #buttons = {};
  #end;

  /**
   * Watches an item until end is called.
   *
   * @param {{id: string, private: boolean}} member  of the list
   * @param {{role: string, sync: import("/entity-sync/index.js").Sync, api: import("./api.js").API,
   *   say: (text: string, kind?: "error" | "waiting") => void}} page
   * @param {(row: Row, news?: object) => void} changed  what is shown has changed; news is
   *   a row that has arrived
   */
  constructor(member, { role, sync, api, say }, changed) {
    this.#id = member.id;
    this.#private = member.private;
    this.#role = role;
    this.#api = api;
    this.#say = say;
    this.#changed = changed;
    this.element = make("tr", { role: "row", "data-id": member.id });
    this.#fill();
    const entity = member.private ? "board-private-items" : "board-items";
    this.#end = sync.subscribe(entity, member.id, (update) => this.#receive(update));
  }

  /** "unknown" until there is something to show, then "there", "denied" or "gone". */
  state = "unknown";

  /** The item as it is shown. */
  get item() {
    return this.state === "there" ? this.#optimistic.shown : undefined;
  }

  get id() {
    return this.#id;
  }

  /** Watches the item no more. It is gone. */
  end() {
    this.state = "gone";
    this.#end();
  }

  #receive({ row, rows, state }) {
    const known = this.#optimistic.row;
    if (state === "denied") {
      this.state = "denied";
      this.#deny();
      this.#changed(this);
    } else if (row && row !== known) {
      this.state = "there";
      this.#optimistic.receive(row);
      this.#show(true);
      this.#changed(this, row);
      if (!known) {
        flash(this.element);
      }
    } else if (rows?.length === 0) {
      this.state = "gone";
      this.#changed(this);
    }
  }

  // Shows the item with the edits over it. What has come from the node lights up
  // where it is something else.
  #show(arrived = false) {
    const item = this.#optimistic.shown;
    for (const [field, part] of Object.entries(this.#parts)) {
      const cell = this.#cells[field];
      if (part.show(item[field]) && arrived) {
        flash(cell);
      }
      cell.classList.toggle("pending", this.#optimistic.isPending(field));
    }
    this.#describe(item);
    if (!arrived) {
      this.#changed(this);
    }
  }

  async #edit(field, value, change) {
    if (this.state === "gone") {
      return; // a field is left, as its row goes
    }
    this.#say("");
    try {
      const answer = await this.#optimistic.edit({ [field]: value }, () => this.#api.change(this.#id, change));
      if (!answer.announced) {
        this.#say(`Saved. ${notYet}`, "waiting");
      }
    } catch (error) {
      flash(this.#cells[field], "refused");
      this.#say(`Not saved: ${error.message}.`, "error");
    }
  }

  // Relative, so that two people's clicks both count.
  #step(by) {
    this.#edit("quantity", Math.max(0, this.item.quantity + by), { add: by });
  }

  async #delete() {
    if (this.element.classList.contains("leaving")) {
      return; // the second of two clicks
    }
    this.#say("");
    this.element.classList.add("leaving");
    try {
      await this.#api.delete(this.#id);
    } catch (error) {
      this.element.classList.remove("leaving");
      this.#say(`Not deleted: ${error.message}.`, "error");
    }
  }

  // What the row is made of.

  #fill() {
    const field = (name, format, parse, inputMode) => new Field({
      format, parse, inputMode,
      commit: (value) => this.#edit(name, value, { [name]: value }),
      fail: (error) => this.#say(`Not saved: ${error.message}.`, "error"),
      mend: () => this.#say(""),
    });
    const button = (text, className, onclick) => make("button", { type: "button", className, textContent: text, onclick });

    const manager = this.#role === "manager";
    this.#parts = {
      name: manager ? field("name", String, parseText) : new Text(String),
      quantity: field("quantity", String, parseCount, "numeric"),
      priceCents: manager ? field("priceCents", amount, parseAmount, "decimal") : new Text(money),
    };
    this.#buttons = {
      less: button("−", "step", () => this.#step(-1)),
      more: button("+", "step", () => this.#step(1)),
    };
    if (manager) {
      this.#parts.costCents = field("costCents", amount, parseAmount, "decimal");
      this.#parts.marginPercent = new Text(percent);
      this.#buttons.delete = button("×", "delete", () => this.#delete());
    }
    this.element.append(...columns(this.#role).map((column) => this.#cell(column)));
  }

  #cell({ field, className, heading }) {
    const cell = field === "name"
      ? make("th", { className, scope: "row", role: "rowheader" })
      : make("td", { className, role: "cell", ...(heading && { "data-label": heading }) });
    const part = this.#parts[field]?.element;
    const contents = {
      name: () => make("span", { className: "title" }, part, ...this.#private ? [make("span", { className: "chip", textContent: "Private" })] : [], this.#chip),
      quantity: () => make("span", { className: "stepper" }, this.#buttons.less, part, this.#buttons.more),
      price: () => (part.tagName === "INPUT" ? euro(part) : part),
      cost: () => euro(part),
      margin: () => part,
      actions: () => this.#buttons.delete,
    };
    cell.append(contents[className]());
    this.#cells[field] = cell;
    return cell;
  }

  #describe(item) {
    this.#chip.textContent = item.quantity === 0 ? "Out" : item.quantity <= low ? "Low" : "";
    this.#chip.className = item.quantity === 0 ? "chip out" : "chip low";
    this.#chip.hidden = this.#chip.textContent === "";
    this.#parts.name.name("Name");
    this.#parts.quantity.name(`Quantity of ${item.name}`);
    this.#parts.priceCents.name(`Price of ${item.name}, in euros`);
    this.#parts.costCents?.name(`Unit cost of ${item.name}, in euros`);
    this.#buttons.less.setAttribute("aria-label", `One ${item.name} less`);
    this.#buttons.more.setAttribute("aria-label", `One ${item.name} more`);
    this.#buttons.delete?.setAttribute("aria-label", `Delete ${item.name}`);
  }

  #deny() {
    const title = make("span", { className: "title" }, "An item for managers only", make("span", { className: "chip", textContent: "Denied" }));
    this.element.className = "denied";
    this.element.replaceChildren(
      make("th", { className: "name", scope: "row", role: "rowheader", colSpan: columns(this.#role).length }, title));
  }
}

function euro(input) {
  return make("span", { className: "money" }, make("span", { className: "sign", textContent: "€", "aria-hidden": "true" }), input);
}
