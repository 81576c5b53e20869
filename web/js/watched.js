// What the tabs of a hub watch: which tab relies on which request to the node, and what the
// node has sent about each key.

import { TOO_MANY, nameOf } from "./protocol.js";

/**
 * A key or a topic in a request.
 *
 * @typedef {{entity?: string, id?: string, version?: string, topic?: string, exact?: boolean, after?: string}} Named
 */

/** A tab. */
export class Tab {
  begun = false; // it has sent its first request
  greeted = false; // the node has granted that request: the tab may be shown something
  /** @type {string[]} */
  waiting = []; // requests that it sent before it was greeted
  short = false; // the node had no place for a key of it

  /** @param {number} number */
  constructor(number) {
    this.number = number;
  }
}

/**
 * A tab's request, under the number of the request to the node.
 *
 * @typedef {object} Request
 * @property {string} from  the tab's id
 * @property {Tab} tab
 * @property {unknown} ref  the tab's own
 * @property {Named[]} keys  the keys and topics in it
 * @property {Named[]} asked  those among them that the node was asked for
 * @property {Set<string>} refused  the names of those that the node has refused
 * @property {object} [publication]  the body of a request that publishes
 * @property {string} [secret]  the secret in it
 * @property {number} [freed]  places at the node that come free when it is granted
 * @property {string[]} before  messages for the tab before the answer
 * @property {string[]} after  messages for the tab after the answer
 * @property {number} words  how many messages the node had sent when it was made
 * @property {number} at  the time when it was made
 */

/**
 * A tab that watches a key. number: the request by which it subscribes, until that is
 * answered. by: the request that asked the node, perhaps another tab's. version: of the rows
 * that it has. exact: of a topic, whether it wants nothing from below.
 *
 * @typedef {{number: number, by: number, version?: string, exact?: boolean}} Watcher
 */

/** A key or a topic that tabs watch. */
class Key {
  /** @type {Map<Tab, Watcher>} */
  watchers = new Map();
  first = 0; // the first request that has asked the node
  last = 0;
  live = false; // the node has granted one of them
  coming = false; // the rows that the last of them asks for are to come
  /** @type {string | undefined} */
  named = undefined; // the version in the last request
  /** @type {string | undefined} */
  version = undefined; // the newest that the node has sent
  /** @type {string | undefined} */
  text = undefined; // the message with that version, if it has rows or says that there are none

  /** The message for a tab that has a version of the key. @param {Named} key */
  answer({ entity, id, version }) {
    return version !== undefined && version === this.version ? say("current", { entity, id, version }) : this.text;
  }

  /** Whether the message for a tab that has a version is about to come. @param {Named} key */
  awaits({ version }) {
    return this.coming && (this.named === undefined || this.named === version);
  }

  forget() {
    this.version = this.text = undefined;
  }
}

/** A message. @param {string} action @param {unknown} body @param {unknown} [ref] */
export const say = (action, body, ref) => JSON.stringify({ action, ref, body });

export class Watched {
  /** @type {Map<string, Key>} */
  #keys = new Map();
  #requests;
  #post;

  /**
   * @param {Map<number, Request>} requests  those that the node has not answered
   * @param {(tabs: Tab[], message: object) => void} post  sends tabs a message
   */
  constructor(requests, post) {
    this.#requests = requests;
    this.#post = post;
  }

  clear() {
    this.#keys.clear();
  }

  /** Forgets all rows: those of another secret are not for tabs that come with this one. */
  forget() {
    this.#keys.forEach((key) => key.forget());
  }

  /**
   * Makes a tab watch the keys of its request, and says in the request which of them the node
   * must be asked for.
   *
   * @param {number} number @param {Request} request
   */
  add(number, { tab, keys, asked, after }) {
    for (const named of keys) {
      const name = nameOf(named);
      const key = this.#keys.get(name) ?? new Key();
      const answer = key.answer(named);
      this.#keys.set(name, key);
      if (answer !== undefined) {
        after.push(answer);
      } else if (named.topic !== undefined || !key.awaits(named)) { // each tab may have missed other events
        const exact = [...key.watchers].every(([other, watcher]) => other === tab || watcher.exact) && named.exact;
        asked.push(named.topic === undefined ? named : { ...named, exact });
        key.first ||= number;
        key.last = number;
        key.named = named.version;
        key.coming = true;
      }
      key.watchers.set(tab, answer !== undefined ? { number, by: 0, version: key.version } : { number, by: key.last, version: named.version, exact: named.exact });
    }
  }

  /**
   * Makes a tab not watch the keys of its request any more, and says in the request which of
   * them the node is to be told of.
   *
   * @param {Request} request
   */
  remove(request) {
    const { tab, keys, asked } = request;
    request.freed = 0;
    for (const named of keys) {
      const key = this.#keys.get(nameOf(named));
      key?.watchers.delete(tab);
      if (!key?.watchers.size) {
        request.freed += this.#keys.delete(nameOf(named)) ? 1 : 0;
        asked.push(named);
      }
    }
  }

  /**
   * Takes a tab out of the keys that others watch, and returns the keys that only this tab
   * watches, by the request that last asked for them.
   *
   * @param {Tab} tab @returns {Named[][]}
   */
  only(tab) {
    /** @type {Map<number, Named[]>} */
    const left = new Map();
    for (const [name, { watchers, last }] of this.#keys) {
      if (watchers.size > 1) {
        watchers.delete(tab);
      } else if (watchers.has(tab)) {
        const [first, id] = JSON.parse(name);
        const keys = left.get(last) ?? [];
        keys.push(id === undefined ? { topic: first } : { entity: first, id });
        left.set(last, keys);
      }
    }
    return [...left.values()];
  }

  /** The node has granted a request. @param {number} number @param {Request} request */
  granted(number, { tab, keys, asked, refused }) {
    for (const named of asked) {
      const key = this.#keys.get(nameOf(named));
      if (key && number >= key.first && !refused.has(nameOf(named))) { // otherwise the key was asked for again since
        key.live = true;
      }
    }
    for (const named of keys) {
      const watcher = this.#keys.get(nameOf(named))?.watchers.get(tab);
      if (watcher?.number === number) {
        watcher.number = 0;
      }
    }
  }

  /**
   * Refuses a key to all tabs that relied on the request by which the node has refused it.
   *
   * @param {number} number @param {Named} named @param {string} code @param {string} message
   */
  deny(number, named, code, message) {
    const { entity, id, topic } = named;
    const key = this.#keys.get(nameOf(named));
    if (!key) {
      return;
    }
    key.coming &&= key.last !== number;
    for (const [tab, watcher] of key.watchers) {
      if (watcher.by === number) {
        if (watcher.number !== number) {
          const { before, ref } = /** @type {Request} */ (this.#requests.get(watcher.number));
          before.push(say("error", { entity, id, topic, code, message }, ref));
          tab.short ||= code === TOO_MANY;
        }
        this.leave(watcher.number, tab, named);
      }
    }
  }

  /** Ends what a tab has asked for by a request. @param {number} number @param {Tab} tab @param {Named} named */
  leave(number, tab, named) {
    const name = nameOf(named);
    const key = this.#keys.get(name);
    if (key?.watchers.get(tab)?.number === number) {
      key.watchers.delete(tab);
      if (key.watchers.size === 0) {
        this.#keys.delete(name);
      }
    }
  }

  /** The node has sent rows, or word that there are none, or that a version is the newest. @param {string} action @param {Named} body @param {string} text */
  news(action, body, text) {
    const key = this.#keys.get(nameOf(body));
    if (key?.live) { // otherwise it is about an earlier subscription
      const current = action === "current";
      if (!current || key.version !== body.version) {
        key.text = current ? undefined : text;
        key.version = body.version;
      }
      key.coming &&= this.#requests.has(key.last);
      this.#tell(key, text, ({ version }) => !current || version === body.version);
    }
  }

  /**
   * The node has sent an event, or word that events were missed, of topics: for each tab once.
   *
   * @param {string[]} topics @param {string} text
   */
  heard(topics, text) {
    /** @type {Set<Tab>} */
    const told = new Set();
    for (const topic of topics) {
      const key = this.#keys.get(nameOf({ topic }));
      if (key?.live) {
        this.#tell(key, text, (_, tab) => !told.has(tab)).forEach((tab) => told.add(tab));
      }
    }
  }

  /** The node has ended a subscription. @param {Named} body @param {string} text @returns {boolean} whether there was one */
  ended(body, text) {
    const key = this.#keys.get(nameOf(body));
    if (!key?.live) {
      return false;
    }
    key.live = false;
    key.coming &&= this.#requests.has(key.last);
    key.forget();
    this.#tell(key, text).forEach((tab) => key.watchers.delete(tab));
    if (key.watchers.size === 0) {
      this.#keys.delete(nameOf(body));
    }
    return true;
  }

  // Sends the tabs that watch a key a message about it: now, or after the answer that a tab is
  // waiting for. A tab whose subscription the node has not answered yet is left out.
  /** @param {Key} key @param {string} text @param {(watcher: Watcher, tab: Tab) => boolean} [whom] @returns {Tab[]} the tabs that get it */
  #tell(key, text, whom = () => true) {
    const told = [...key.watchers].filter(([tab, watcher]) => !this.#requests.has(watcher.by) && whom(watcher, tab));
    const now = [];
    for (const [tab, watcher] of told) {
      watcher.version = key.version;
      if (watcher.number > 0) {
        this.#requests.get(watcher.number)?.after.push(text);
      } else {
        now.push(tab);
      }
    }
    this.#post(now, { texts: [text] });
    return told.map(([tab]) => tab);
  }
}
