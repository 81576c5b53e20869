import { SyncError } from "./protocol.js";
import type { State, Sync } from "./index.js";
export type CloudEvent<Data = any> = {
    specversion: string;
    id: string;
    source: string;
    type: string;
    time?: string;
    data?: Data;
    [member: string]: any;
};
export type Heard<Data = any> = {
    /**
     * undefined if events were missed
     */
    event: CloudEvent<Data> | undefined;
    /**
     * what the event was published to, or the subscription's topic
     */
    topic: string;
    /**
     * this client's topics that match, the most specific one first
     */
    context: readonly string[];
    /**
     * how many events were missed: none with an event, undefined
     * if the number is not known
     */
    missed: number | undefined;
};
export type TopicOptions = {
    /**
     * hears the topic alone, without the topics below it
     */
    exact?: boolean;
    /**
     * the id of the last event that the page has, perhaps from an earlier visit:
     * the node sends the later events first, as far as it keeps them. It counts for the topic's first
     * subscription
     */
    after?: string;
    /**
     * is told of each state of the
     * subscription, and why it is denied or takes so long
     */
    onState?: (state: State, error?: SyncError) => void;
    /**
     * ends the subscription
     */
    signal?: AbortSignal;
};
/** @import { State, Sync } from "./index.js" */
/**
 * A CloudEvent 1.0 in the JSON format.
 *
 * @template [Data=any]
 * @typedef {{specversion: string, id: string, source: string, type: string, time?: string, data?: Data, [member: string]: any}} CloudEvent
 */
/**
 * What a subscription hears: an event, or that events were missed in its place.
 *
 * @template [Data=any]
 * @typedef {object} Heard
 * @property {CloudEvent<Data> | undefined} event  undefined if events were missed
 * @property {string} topic  what the event was published to, or the subscription's topic
 * @property {readonly string[]} context  this client's topics that match, the most specific one first
 * @property {number | undefined} missed  how many events were missed: none with an event, undefined
 *   if the number is not known
 */
/**
 * @typedef {object} TopicOptions
 * @property {boolean} [exact]  hears the topic alone, without the topics below it
 * @property {string} [after]  the id of the last event that the page has, perhaps from an earlier visit:
 *   the node sends the later events first, as far as it keeps them. It counts for the topic's first
 *   subscription
 * @property {(state: State, error?: SyncError) => void} [onState]  is told of each state of the
 *   subscription, and why it is denied or takes so long
 * @property {AbortSignal} [signal]  ends the subscription
 */
/** The topics of one client: see topics. */
export declare class Topics {
    #private;
    /** @param {Sync} sync */
    constructor(sync: Sync);
    /**
     * Subscribes to a topic. The callback gets each event of the topic and of those below it, in
     * the order in which one node published them, and in place of events that were missed an
     * object without an event. After the connection was lost, the node sends what was missed as
     * far as it keeps it.
     *
     * @template [Data=any]
     * @param {string} topic
     * @param {(heard: Heard<Data>) => void} callback
     * @param {TopicOptions} [options]
     * @returns {() => void} ends that; nothing is called back afterwards
     */
    subscribe<Data = any>(topic: string, callback: (heard: Heard<Data>) => void, options?: TopicOptions): () => void;
    /**
     * Subscribes to a topic in a for-await loop, which ends quietly when the signal aborts or the
     * client is closed. Of what waits for a slow loop the oldest beyond 1,024 is left out, and told
     * as missed.
     *
     * @template [Data=any]
     * @param {string} topic
     * @param {TopicOptions} [options]
     * @returns {AsyncGenerator<Heard<Data>, void, undefined>}
     */
    watch<Data = any>(topic: string, options?: TopicOptions): AsyncGenerator<Heard<Data>, void, undefined>;
    /**
     * Has the node make an event of data, and publish it.
     *
     * @param {string | string[]} topic  one, or up to 16
     * @param {unknown} data
     * @param {{echo?: boolean}} [options]  with echo false this connection does not hear the event
     * @returns {Promise<void>} settles when the bus has the event. After the error `unavailable`
     *   the event may have been published all the same, after `offline` it was not
     */
    publish(topic: string | string[], data: unknown, { echo }?: {
        echo?: boolean;
    }): Promise<void>;
    /**
     * Publishes an event of the page's own, which is delivered as it is.
     *
     * @param {string | string[]} topic  one, or up to 16
     * @param {CloudEvent} event
     * @param {{echo?: boolean}} [options]  as of publish
     * @returns {Promise<void>} as of publish
     */
    publishEvent(topic: string | string[], event: CloudEvent, { echo }?: {
        echo?: boolean;
    }): Promise<void>;
}
/**
 * The topics of a client. The same client has the same.
 *
 * @param {Sync} sync  what connect has returned
 * @returns {Topics}
 */
export declare function topics(sync: Sync): Topics;
