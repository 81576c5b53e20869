// One item: a row of the table, as the person looking may see and edit it.

import { Field, Text, flash, make } from "./cells.js";
import { amount, money, parseAmount, parseCount, parseText, percent } from "./format.js";

const low = 5; // units

/** The columns that a role has, in order: [class, heading]. */
export function columns(role) {
  const all = [["name", "Item"], ["quantity", "Quantity"], ["price", "Price"]];
  if (role === "manager") {
    all.push(["cost", "Unit cost"], ["margin", "Margin"], ["actions", ""]);
  }
  return all;
}

export class Row {
  #parts = {};
  #cells = {};
  #chip = make("span", { className: "chip" });
  #buttons = {};

  /** @param {{id: string, role: string, api: API, say: (text: string, error?: boolean) => void}} options */
  constructor({ id, role, api, say }) {
    const fail = (error) => say(`Not saved: ${error.message}.`, true);
    const send = async (request) => {
      say(""); // now, and not when it is done: what it leads to may be told before
      const answer = await request;
      if (!answer.announced) {
        say("Saved. The other node will hear of it when NSQ is back.");
      }
    };
    const field = (name, format, parse, inputMode) =>
      new Field({ format, parse, inputMode, fail, commit: (value) => send(api.change(id, { [name]: value })) });
    const click = (text, className, request) => {
      const button = make("button", { type: "button", className, textContent: text });
      button.addEventListener("click", () => send(request()).catch(fail));
      return button;
    };

    const manager = role === "manager";
    this.#parts = {
      name: manager ? field("name", String, parseText) : new Text(String),
      quantity: field("quantity", String, parseCount, "numeric"),
      price: manager ? field("priceCents", amount, parseAmount, "decimal") : new Text(money),
    };
    this.#buttons = {
      less: click("−", "step", () => api.change(id, { add: -1 })),
      more: click("+", "step", () => api.change(id, { add: 1 })),
    };
    if (manager) {
      this.#parts.cost = field("costCents", amount, parseAmount, "decimal");
      this.#parts.margin = new Text(percent);
      this.#buttons.delete = click("×", "delete", () => api.delete(id));
    }
    this.element = make("tr", { role: "row", "data-id": id });
    for (const [name, heading] of columns(role)) {
      this.element.append(this.#cell(name, heading));
    }
  }

  #cell(name, heading) {
    const cell = name === "name"
      ? make("th", { className: name, scope: "row", role: "rowheader" })
      : make("td", { className: name, role: "cell", ...(heading && { "data-label": heading }) });
    const part = this.#parts[name]?.element;
    const contents = {
      name: () => [make("span", { className: "title" }, part, this.#chip)],
      quantity: () => [make("span", { className: "stepper" }, this.#buttons.less, part, this.#buttons.more)],
      price: () => (part.tagName === "INPUT" ? [euro(part)] : [part]),
      cost: () => [euro(part)],
      margin: () => [part],
      actions: () => [this.#buttons.delete],
    };
    cell.append(...contents[name]());
    this.#cells[name] = cell;
    return cell;
  }

  show(item) {
    const values = {
      name: item.name, quantity: item.quantity, price: item.priceCents,
      cost: item.costCents, margin: item.marginPercent,
    };
    for (const [name, part] of Object.entries(this.#parts)) {
      if (values[name] !== undefined || name === "margin") {
        part.show(values[name], this.#cells[name]);
      }
    }
    this.#describe(item);
  }

  /** Draws attention to a row that was not there before. */
  flash() {
    flash(this.element);
  }

  #describe(item) {
    this.#chip.textContent = item.quantity === 0 ? "Out" : item.quantity <= low ? "Low" : "";
    this.#chip.className = item.quantity === 0 ? "chip out" : "chip low";
    this.#chip.hidden = this.#chip.textContent === "";
    this.#parts.name.name("Name");
    this.#parts.quantity.name(`Quantity of ${item.name}`);
    this.#parts.price.name(`Price of ${item.name}, in euros`);
    this.#parts.cost?.name(`Unit cost of ${item.name}, in euros`);
    this.#buttons.less.setAttribute("aria-label", `One ${item.name} less`);
    this.#buttons.more.setAttribute("aria-label", `One ${item.name} more`);
    this.#buttons.delete?.setAttribute("aria-label", `Delete ${item.name}`);
  }
}

function euro(input) {
  return make("span", { className: "money" }, make("span", { className: "sign", textContent: "€", "aria-hidden": "true" }), input);
}
