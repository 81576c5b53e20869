import type { Options } from "./index.js";
export type Context = Options & {
    linger: number;
    timeout: number;
    maxMessageBytes: number;
    min: number;
    max: number;
    signal: AbortSignal;
    queue: (() => unknown)[];
};
/** @import { Options } from "./index.js" */
/**
 * The parts of a client share this: its options with their defaults, a signal that aborts
 * when the client is closed, and the queued calls of the application.
 *
 * @typedef {Options & {linger: number, timeout: number, maxMessageBytes: number, min: number,
 *   max: number, signal: AbortSignal, queue: (() => unknown)[]}} Context
 */
/**
 * Calls the application when this turn's work is done, in the order in which the calls were
 * queued: a callback finds nothing half done, and all callbacks see the same state. An error
 * of a callback, even a later one, is reported. Nothing is called once the client is closed.
 *
 * @param {Context} context
 * @param {((...args: any[]) => unknown) | undefined} callback
 * @param {unknown[]} args
 */
export declare const enqueue: (context: Context, callback: ((...args: any[]) => unknown) | undefined, ...args: unknown[]) => void;
/** @param {Context} context @param {unknown} error */
export declare const report: (context: Context, error: unknown) => void;
