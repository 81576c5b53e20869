// The hub has the one connection of several tabs, and speaks for them on it. It does not retry
// and does not wait: each tab's client does so by itself, for its own keys and by its own
// options, as with a connection of its own. So each request of a tab is one request to the
// node, and is answered when the node has answered it. A key whose rows the node has sent
// already is not asked for again.

import { Link } from "./link.js";
import { ABNORMAL_CLOSURE, TOO_MANY, nameOf } from "./protocol.js";
import { Tab, Watched, say } from "./watched.js";

/** @import { Named, Request } from "./watched.js" */

const TOO_LARGE = 1009;
const SHORTEST = 500; // ms that a node has to answer
const NOTHING = { entity: "", id: "" }; // a key that the node acknowledges, and does nothing for

export class Hub {
  #id = crypto.randomUUID();
  #channel;
  #gone;
  #count = 0; // of all tabs so far

  // About the present connection.
  #link;
  /** @type {Map<string, Tab>} */
  #tabs = new Map();
  /** @type {Map<number, Request>} */
  #requests = new Map();
  #watched = new Watched(this.#requests, (tabs, message) => this.#post(tabs, message));
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
    this.#link = new Link(url, protocol, (text) => this.#heard(text), (code, reason) => this.#lost(code, reason));
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
    const keys = typeof body === "object" && action !== "publish" ? [body].flat() : [];
    const request = this.#request(from, tab, ref, keys);
    if (text.length > this.#longest) {
      this.#longest = text.length;
      this.#verbose = tab;
    }
    if (action === "subscribe") {
      this.#subscribe(request);
    } else if (action === "unsubscribe") {
      this.#unsubscribe(request);
    } else if (action === "publish") {
      request.publication = body;
      this.#ask(action, request);
    } else if (!action) {
      this.#link.send(text); // the application's own
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
    this.#watched.add(this.#number + 1, request);
    this.#ask(request.asked.length > 0 ? "subscribe" : "unsubscribe", request);
  }

  /** @param {Request} request */
  #unsubscribe(request) {
    this.#watched.remove(request);
    this.#ask("unsubscribe", request);
  }

  /** @param {string} action @param {Request} request */
  #ask(action, request) {
    const { asked, secret, publication } = request;
    this.#requests.set(++this.#number, request);
    this.#link.send(say(action, secret ?? publication ?? (asked.length > 0 ? asked : NOTHING), this.#number));
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
    for (const keys of this.#watched.only(tab)) {
      this.#unsubscribe(this.#request(id, tab, undefined, keys));
    }
  }

  // The connection.

  // Forgets the connection and its tabs.
  #drop() {
    this.#link.drop();
    this.#tabs.clear();
    this.#watched.clear();
    this.#requests.clear();
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
        this.#watched.news(action, body, text);
        break;
      case "event":
        this.#watched.heard(body.context, text);
        break;
      case "gap":
        this.#watched.heard([body.topic], text);
        break;
      case "unsubscribed":
        if (this.#watched.ended(body, text)) {
          this.#offer(1);
        }
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
    const { from, tab, ref, secret, freed, before, after } = request;
    if (secret !== undefined && secret !== this.#secret) {
      this.#secret = secret;
      this.#watched.forget();
    }
    this.#watched.granted(number, request);
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
    const named = body.id !== undefined || (body.topic !== undefined && asked.length > 0);
    const one = named ? body : asked[body.index];
    for (const named of one ? [one] : asked) {
      refused.add(nameOf(named));
      this.#watched.deny(number, named, code, message);
    }
    const error = say("error", body.index === undefined || !one ? body : { ...body, index: keys.findIndex((each) => nameOf(each) === nameOf(one)) }, ref);
    tab.short ||= code === TOO_MANY;
    if (one) {
      before.push(error);
    } else {
      keys.forEach((named) => this.#watched.leave(number, tab, named));
      this.#requests.delete(number); // the node sends no other answer to it
      this.#post([tab], { texts: [error] });
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
