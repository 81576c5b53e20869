// The hub has the one connection of several tabs, and speaks for them on it. It does not retry
// and does not wait: each tab's client does so by itself, for its own keys and by its own
// options, as with a connection of its own. So each request of a tab is one request to the
// node, and is answered when the node has answered it. A key whose rows the node has sent
// already is not asked for again.

import { ABNORMAL_CLOSURE, TOO_MANY, nameOf } from "./protocol.js";

const TOO_LARGE = 1009;
const SHORTEST = 500; // ms that a node has to answer
const NOTHING = { entity: "", id: "" }; // a key that the node acknowledges, and does nothing for

/** @typedef {{entity: string, id: string, version?: string}} Named  a key in a request */

/** A tab. */
class Tab {
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
 * @property {Named[]} keys  the keys in it
 * @property {Named[]} asked  the keys among them that the node was asked for
 * @property {Set<string>} refused  the names of the keys that the node has refused
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
 * that it has.
 *
 * @typedef {{number: number, by: number, version?: string}} Watcher
 */

/** A key that tabs watch. */
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

/** @param {string} action @param {unknown} body @param {unknown} [ref] */
const say = (action, body, ref) => JSON.stringify({ action, ref, body });

export class Hub {
  #id = crypto.randomUUID();
  #channel;
  #url;
  #protocol;
  #gone;
  #count = 0; // of all tabs so far

  // About the present connection.
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {string[]} */
  #unsent = []; // until the socket is open
  /** @type {Map<string, Tab>} */
  #tabs = new Map();
  /** @type {Map<string, Key>} */
  #keys = new Map();
  /** @type {Map<number, Request>} */
  #requests = new Map();
  #number = 0; // of the last request
  #words = 0; // messages of the node
  /** @type {string | undefined} */
  #secret; // the last one that the node has accepted
  #stale = false;
  /** @type {Tab | undefined} */
  #verbose; // the tab that sent the longest message
  #longest = 0;

  /**
   * @param {string} room  the channel's name
   * @param {string} url
   * @param {string} protocol
   * @param {(id: string) => Promise<unknown>} gone  settles when a tab is not there any more
   */
  constructor(room, url, protocol, gone) {
    this.#url = url;
    this.#protocol = protocol;
    this.#gone = gone;
    this.#channel = new BroadcastChannel(room);
    this.#channel.onmessage = ({ data }) => this.#told(data);
    /** @type {any} */ (this.#channel).unref?.(); // otherwise a program in Node would never end
    this.#channel.postMessage({ leads: true });
  }

  close() {
    this.#channel.close();
    this.#drop();
  }

  // Messages of tabs.

  /** @param {any} message */
  #told({ hello, to, from, text, broken }) {
    if (hello) {
      this.#welcome(hello);
    } else if (to !== this.#id) {
      return;
    } else if (broken) {
      this.#doubt();
    } else {
      const tab = this.#tabs.get(from);
      if (tab?.begun && !tab.greeted) {
        tab.waiting.push(text); // nothing is done for it before
      } else if (tab) {
        this.#serve(from, tab, text);
      }
    }
  }

  /** @param {string} id */
  #welcome(id) {
    if (!this.#tabs.has(id)) {
      this.#tabs.set(id, new Tab(++this.#count));
      this.#gone(id).then(() => this.#forget(id), () => {});
    }
    this.#channel.postMessage({ hub: this.#id, welcome: id, number: this.#tabs.get(id)?.number });
  }

  // A tab has waited for an answer as long as it was willing to, or has just stopped waiting.
  // If the node has sent nothing meanwhile, the connection is given up.
  #doubt() {
    const [oldest] = this.#requests.values();
    if (oldest?.words === this.#words && performance.now() - oldest.at > SHORTEST) {
      this.#lost(ABNORMAL_CLOSURE, "");
    }
  }

  /** @param {string} from @param {Tab} tab @param {string} text */
  #serve(from, tab, text) {
    const { action, ref, body } = JSON.parse(text);
    /** @type {Named[]} */
    const keys = typeof body === "object" ? [body].flat() : [];
    const request = this.#request(from, tab, ref, keys);
    if (text.length > this.#longest) {
      this.#longest = text.length;
      this.#verbose = tab;
    }
    if (action === "subscribe") {
      this.#subscribe(request);
    } else if (action === "unsubscribe") {
      this.#unsubscribe(request);
    } else if (!action) {
      this.#send(text); // the application's own
    } else if (!tab.begun && body === this.#secret) {
      this.#ask("unsubscribe", request);
    } else {
      request.secret = body;
      this.#ask("secret", request);
    }
    tab.begun = true;
  }

  /** @param {string} from @param {Tab} tab @param {unknown} ref @param {Named[]} keys @returns {Request} */
  #request(from, tab, ref, keys) {
    return { from, tab, ref, keys, asked: [], refused: new Set(), before: [], after: [], words: this.#words, at: performance.now() };
  }

  /** @param {Request} request */
  #subscribe(request) {
    const { tab, keys, asked, after } = request;
    const number = this.#number + 1;
    for (const named of keys) {
      const name = nameOf(named);
      const key = this.#keys.get(name) ?? new Key();
      const answer = key.answer(named);
      this.#keys.set(name, key);
      if (answer !== undefined) {
        after.push(answer);
      } else if (!key.awaits(named)) {
        asked.push(named);
        key.first ||= number;
        key.last = number;
        key.named = named.version;
        key.coming = true;
      }
      key.watchers.set(tab, answer !== undefined ? { number, by: 0, version: key.version } : { number, by: key.last, version: named.version });
    }
    this.#ask(asked.length > 0 ? "subscribe" : "unsubscribe", request);
  }

  /** @param {Request} request */
  #unsubscribe(request) {
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
    this.#ask("unsubscribe", request);
  }

  /** @param {string} action @param {Request} request */
  #ask(action, request) {
    const { asked, secret } = request;
    this.#requests.set(++this.#number, request);
    this.#send(say(action, secret ?? (asked.length > 0 ? asked : NOTHING), this.#number));
  }

  /** @param {string} text */
  #send(text) {
    if (this.#socket?.readyState === 1) {
      this.#socket.send(text);
    } else {
      this.#unsent.push(text);
      this.#connect();
    }
  }

  // Unsubscribes from the keys that only this tab watched, in one message for each request that
  // asked for them: such a message names no more keys than that one, so it is not too large.
  /** @param {string} id */
  #forget(id) {
    const tab = this.#tabs.get(id);
    if (!tab) {
      return;
    }
    this.#tabs.delete(id);
    if (this.#tabs.size === 0) {
      this.#drop();
      return;
    }
    /** @type {Map<number, Named[]>} */
    const left = new Map();
    for (const [name, { watchers, last }] of this.#keys) {
      if (watchers.size > 1) {
        watchers.delete(tab);
      } else if (watchers.has(tab)) {
        const [entity, id] = JSON.parse(name);
        const keys = left.get(last) ?? [];
        keys.push({ entity, id });
        left.set(last, keys);
      }
    }
    for (const keys of left.values()) {
      this.#unsubscribe(this.#request(id, tab, undefined, keys));
    }
  }

  // The connection.

  #connect() {
    if (this.#socket) {
      return;
    }
    try {
      const socket = this.#socket = new WebSocket(this.#url, this.#protocol);
      socket.onopen = () => this.#unsent.splice(0).forEach((text) => socket.send(text));
      socket.onmessage = ({ data }) => this.#heard(data);
      socket.onclose = ({ code, reason }) => this.#lost(code, reason);
      socket.onerror = () => {}; // onclose is called, too
    } catch { // the page may not connect to this URL
      this.#lost(ABNORMAL_CLOSURE, "");
    }
  }

  // Forgets the connection and its tabs.
  #drop() {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#tabs.clear();
    this.#keys.clear();
    this.#requests.clear();
    this.#unsent = [];
    this.#words = this.#longest = 0;
    this.#secret = this.#verbose = undefined;
    this.#stale = false;
  }

  // Tells the tabs the node's close code, by which each comes back or does not. A tab is told
  // ABNORMAL_CLOSURE, and so comes back, if the loss was another tab's fault.
  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    const tabs = [...this.#tabs.values()];
    const about = tabs.filter((tab) => tabs.length === 1 || (code === TOO_LARGE ? tab === this.#verbose : tab.greeted));
    this.#post(about, { code, reason });
    this.#post(tabs.filter((tab) => !about.includes(tab)), { code: ABNORMAL_CLOSURE, reason: "" });
    this.#drop();
  }

  /** @param {Tab[]} tabs @param {object} message */
  #post(tabs, message) {
    if (tabs.length > 0) {
      this.#channel.postMessage({ hub: this.#id, to: tabs.map(({ number }) => number), ...message });
    }
  }

  // Messages of the node.

  /** @param {string} text */
  #heard(text) {
    this.#words++;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = undefined; // text of the application's own
    }
    const { action, ref, body = {} } = message ?? {};
    switch (action) {
      case "ack":
        this.#granted(ref);
        break;
      case "error":
        this.#refused(ref, body, text);
        break;
      case "update":
      case "current":
      case "delete":
        this.#news(action, body, text);
        break;
      case "unsubscribed":
        this.#ended(body, text);
        break;
      default:
        if (action === "stale" || action === "fresh") {
          this.#stale = action === "stale";
        }
        this.#sayAll(text);
    }
  }

  /** @param {string} text */
  #sayAll(text) {
    this.#post([...this.#tabs.values()].filter(({ greeted }) => greeted), { texts: [text] });
  }

  /** @param {number} number */
  #granted(number) {
    const request = this.#requests.get(number);
    if (!request) {
      return;
    }
    this.#requests.delete(number);
    const { from, tab, ref, keys, asked, refused, secret, freed, before, after } = request;
    if (secret !== undefined && secret !== this.#secret) {
      this.#secret = secret;
      this.#keys.forEach((key) => key.forget()); // rows of another secret are not for tabs that come with this one
    }
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
    if (this.#tabs.get(from) === tab) { // the tab is still there
      const first = !tab.greeted;
      tab.greeted = true;
      if (first && this.#stale) {
        after.push(say("stale", undefined));
      }
      this.#post([tab], { texts: [...before, say("ack", undefined, ref), ...after] });
      if (first) {
        tab.waiting.splice(0).forEach((text) => this.#serve(from, tab, text));
      }
    }
    this.#offer(freed ?? 0);
  }

  /** @param {number} number @param {any} body @param {string} text */
  #refused(number, body, text) {
    const request = this.#requests.get(number);
    if (!request) {
      this.#sayAll(text);
      return;
    }
    const { tab, ref, keys, asked, refused, before } = request;
    const { code, message } = body;
    const one = body.id === undefined ? asked[body.index] : body;
    for (const named of one ? [one] : asked) {
      refused.add(nameOf(named));
      this.#deny(number, named, code, message);
    }
    const error = say("error", body.index === undefined ? body : { ...body, index: keys.indexOf(one) }, ref);
    tab.short ||= code === TOO_MANY;
    if (one) {
      before.push(error);
    } else {
      keys.forEach((named) => this.#leave(number, tab, named));
      this.#requests.delete(number); // the node sends no other answer to it
      this.#post([tab], { texts: [error] });
    }
  }

  // Refuses a key to all tabs that relied on the request by which the node has refused it.
  /** @param {number} number @param {Named} named @param {string} code @param {string} message */
  #deny(number, { entity, id }, code, message) {
    const key = this.#keys.get(nameOf({ entity, id }));
    if (!key) {
      return;
    }
    key.coming &&= key.last !== number;
    for (const [tab, watcher] of key.watchers) {
      if (watcher.by === number) {
        if (watcher.number !== number) {
          const { before, ref } = /** @type {Request} */ (this.#requests.get(watcher.number));
          before.push(say("error", { entity, id, code, message }, ref));
          tab.short ||= code === TOO_MANY;
        }
        this.#leave(watcher.number, tab, { entity, id });
      }
    }
  }

  /** @param {number} number @param {Tab} tab @param {Named} named */
  #leave(number, tab, named) {
    const name = nameOf(named);
    const key = this.#keys.get(name);
    if (key?.watchers.get(tab)?.number === number) {
      key.watchers.delete(tab);
      if (key.watchers.size === 0) {
        this.#keys.delete(name);
      }
    }
  }

  // Sends the tabs that watch a key a message about it: now, or after the answer that a tab is
  // waiting for. A tab whose subscription the node has not answered yet is left out.
  /** @param {Key} key @param {string} text @param {(watcher: Watcher) => boolean} [whom] @returns {Tab[]} the tabs that get it */
  #tell(key, text, whom = () => true) {
    const told = [...key.watchers].filter(([, watcher]) => !this.#requests.has(watcher.by) && whom(watcher));
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

  /** @param {string} action @param {Named} body @param {string} text */
  #news(action, body, text) {
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

  /** @param {Named} body @param {string} text */
  #ended(body, text) {
    const key = this.#keys.get(nameOf(body));
    if (key?.live) {
      key.live = false;
      key.coming &&= this.#requests.has(key.last);
      key.forget();
      this.#tell(key, text).forEach((tab) => key.watchers.delete(tab));
      if (key.watchers.size === 0) {
        this.#keys.delete(nameOf(body));
      }
      this.#offer(1);
    }
  }

  // Places at the node came free: tabs that lacked one may ask again.
  /** @param {number} room */
  #offer(room) {
    if (room > 0) {
      this.#post([...this.#tabs.values()].filter(({ short }) => short), { room });
    }
  }
}
