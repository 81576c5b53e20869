// The page's wiring: who we are, the socket, the table, and what is said.

import { API } from "./api.js";
import { Board } from "./board.js";
import { Connection } from "./connection.js";
import { parseAmount, parseCount, parseText } from "./format.js";
import { Latency } from "./latency.js";

// A real page gets its person's token from a login. This one plays two people.
const secrets = { guest: "guest-secret", manager: "manager-secret" };
const lights = { connecting: "Connecting", live: "Live", offline: "Offline, trying again" };

const byId = (id) => document.getElementById(id);

const asked = new URLSearchParams(location.search).get("as");
let role = Object.hasOwn(secrets, asked) ? asked : "guest";

const api = new API(secrets[role]);
const latency = new Latency();
const connection = new Connection({
  url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/entity-sync/`,
  secret: secrets[role],
  onRow: receive,
  onState: showState,
});
const board = new Board({
  role, api, say,
  watch: (id) => connection.subscribe("board-items", id),
  unwatch: (id) => connection.unsubscribe("board-items", id),
});

let listWrittenAt;

function receive(row) {
  if (row.type === "item") {
    if (board.setItem(row)) {
      latency.arrived(row, row.name, connection.openedAt);
    }
  } else if (row.type === "board") {
    board.setList(row.items);
    if (listWrittenAt !== row.writtenAt) {
      listWrittenAt = row.writtenAt;
      latency.arrived(row, "The list of items", connection.openedAt);
    }
  }
}

function showState(state) {
  byId("light").dataset.state = state;
  byId("light-text").textContent = lights[state];
}

/** Tells the person something, by screen reader too. */
function say(text, error = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", error);
}

function become(newRole) {
  role = newRole;
  api.setSecret(secrets[role]);
  board.setRole(role);
  connection.setSecret(secrets[role]);
  showRole();
  say("");
}

function showRole() {
  document.querySelector(`[name=role][value=${role}]`).checked = true;
  history.replaceState(null, "", `?as=${role}`);
  // The other node, under the name by which this one was found.
  const other = new URL(location.href);
  other.port = document.documentElement.dataset.otherPort;
  byId("other").href = other;
  byId("adding").replaceChildren(...(role === "manager" ? [addForm()] : []));
}

// addForm is made for managers only: a guest's page has nothing of it.
function addForm() {
  const form = byId("add-form").content.cloneNode(true).querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { name, quantity, price, cost } = form.elements;
    try {
      await api.add({
        name: parseText(name.value),
        quantity: parseCount(quantity.value || "0"),
        priceCents: parseAmount(price.value || "0"),
        costCents: parseAmount(cost.value || "0"),
      });
      say(`“${parseText(name.value)}” was added.`);
      form.reset();
      name.focus();
    } catch (error) {
      say(`Not added: ${error.message}.`, true);
    }
  });
  return form;
}

document.querySelector(".who").addEventListener("change", (event) => become(event.target.value));
showRole();
connection.subscribe("board", "all");
connection.open();
