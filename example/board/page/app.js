// The page's wiring: who we are, the connection, the table, and what is said.

import { connect } from "/entity-sync/index.js";

import { API, notYet } from "./api.js";
import { Board } from "./board.js";
import { parseAmount, parseCount, parseText } from "./format.js";
import { Latency } from "./latency.js";
import { Network } from "./network.js";

// A real page gets its person's token from a login. This one plays two people.
const secrets = { guest: "guest-secret", manager: "manager-secret" };

const byId = (id) => document.getElementById(id);
const { node, otherPort } = document.documentElement.dataset;

const lights = { connecting: "Connecting", live: "Live", stale: "Stale", offline: "Offline", denied: "Refused" };
const warnings = {
  stale: `What is shown may be out of date: ${node} has lost the bus, or is catching up.`,
  offline: "This page is not connected. It shows what it knew last, and catches up when it is back.",
  denied: `This page is refused by ${node}.`,
};

const network = new Network();
const latency = new Latency();
let sync, api, board;
let busRow; // the newest of board-bus, where there is one

/** Connects as somebody. The one before is forgotten, and so is all that was shown. */
function become(role) {
  sync?.close();
  board?.end();
  sync = connect("/ws/entity-sync/", {
    secret: secrets[role],
    WebSocket: network.WebSocket,
    retry: { max: 2_000 }, // the node is on this machine: nobody is spared by a longer wait
  });
  api = new API(network, secrets[role]);
  showRole(role);
  showState(sync.state);
  sync.onState(showState);
  busRow = undefined;
  sync.subscribe("board-bus", "nsqd", ({ row }) => {
    if (row && row !== busRow) { // that the row we have is stale now does not undo a click
      busRow = row;
      byId("bus").checked = !row.running;
    }
  });
  board = new Board({ role, sync, api, say, arrived: (item) => latency.arrived(item) });
}

let connected = false;

function showState(state) {
  byId("light").dataset.state = state;
  byId("light-text").textContent = lights[state];
  byId("warning").dataset.state = state;
  byId("warning").textContent = warnings[state] ?? "";
  if (state === "live" && byId("status").classList.contains("waiting")) {
    say("");
  }
  const isConnected = state === "live" || state === "stale";
  if (isConnected !== connected) {
    connected = isConnected;
    latency.since = connected ? Date.now() : Infinity;
  }
}

/**
 * Tells the person something, by screen reader too.
 *
 * @param {string} text
 * @param {"" | "error" | "waiting"} [kind]  what waits for NSQ is not said any more when that is back
 */
function say(text, kind = "") {
  byId("status").textContent = text;
  byId("status").className = `status ${kind}`;
}

function showRole(role) {
  document.querySelector(`[name=role][value=${role}]`).checked = true;
  history.replaceState(null, "", `?as=${role}`);
  // The other node, under the name by which this one was found.
  const other = new URL(location.href);
  other.port = otherPort;
  byId("other").href = other;
  byId("adding").replaceChildren(...(role === "manager" ? [addForm()] : []));
  say("");
}

// addForm is made for managers only: a guest's page has nothing of it.
function addForm() {
  const form = byId("add-form").content.cloneNode(true).querySelector("form");
  let adding = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (adding) {
      return; // Enter, twice
    }
    adding = true;
    const fields = form.elements;
    try {
      const name = parseText(fields.name.value);
      const { announced } = await api.add({
        name,
        quantity: parseCount(fields.quantity.value || "0"),
        priceCents: parseAmount(fields.price.value || "0"),
        costCents: parseAmount(fields.cost.value || "0"),
        private: fields.private.checked,
      });
      if (announced) {
        say(`“${name}” was added.`);
      } else {
        say(`“${name}” was added. ${notYet}`, "waiting");
      }
      form.reset();
      fields.name.focus();
    } catch (error) {
      say(`Not added: ${error.message}.`, "error");
    } finally {
      adding = false;
    }
  });
  return form;
}

document.querySelector(".who").addEventListener("change", (event) => become(event.target.value));
byId("offline").addEventListener("change", (event) => network.switch(!event.target.checked));
byId("bus").addEventListener("change", async ({ target }) => {
  const stop = target.checked;
  try {
    await api.switchBus(!stop);
  } catch (error) {
    target.checked = busRow ? !busRow.running : !stop; // some of it may have been done
    say(`Switching the bus failed: ${error.message}.`, "error");
  }
});

const asked = new URLSearchParams(location.search).get("as");
become(Object.hasOwn(secrets, asked) ? asked : "guest");
