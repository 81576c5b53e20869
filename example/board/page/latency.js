// How long the newest change took from being written to being here. Writer and
// page must agree on the time, so this means something on one machine only.

const byId = (id) => document.getElementById(id);
const shown = 20; // changes in the little chart
const svg = "http://www.w3.org/2000/svg";

export class Latency {
  #history = [];

  /** When the page was connected, in ms since 1970. What was written before did not come live. */
  since = Infinity;

  /** @param {{name: string, writtenAt: number, writtenOn: string}} row */
  arrived(row) {
    if (row.writtenAt < this.since) {
      return;
    }
    const ms = Math.max(0, Date.now() - row.writtenAt);
    byId("latency").textContent = ms < 1 ? "<1" : Math.round(ms);
    byId("latency-unit").textContent = " ms";
    byId("latency-note").textContent = `${row.name}, written on ${row.writtenOn}`;
    this.#history = [...this.#history, ms].slice(-shown);
    this.#draw();
  }

  #draw() {
    const most = Math.max(10, ...this.#history);
    byId("history").replaceChildren(...this.#history.map((ms, i) => {
      const height = Math.max(2, (32 * ms) / most);
      const bar = document.createElementNS(svg, "rect");
      const place = { x: 6 * (shown - this.#history.length + i), y: 32 - height, width: 4, height, rx: 1 };
      for (const [name, value] of Object.entries(place)) {
        bar.setAttribute(name, value);
      }
      return bar;
    }));
  }
}
