// The calls of the application's callbacks.

/** @import { Options } from "./index.js" */

/**
 * What the parts of a client share: its options with their defaults, a signal that aborts
 * when the client is closed, and the calls of the application that are queued.
 *
 * @typedef {Options & {linger: number, timeout: number, maxMessageBytes: number, min: number,
 *   max: number, signal: AbortSignal, queue: (() => unknown)[]}} Context
 */

/**
 * Calls the application when this turn's work is done, in the order in which the calls were
 * asked for: a callback finds nothing half done, and all hear the same. What a callback
 * throws, also later, is reported. Nothing is called once the client is closed.
 *
 * @param {Context} context
 * @param {((...args: any[]) => unknown) | undefined} callback
 * @param {unknown[]} args
 */
export const enqueue = (context, callback, ...args) =>
  push(context, () => context.signal.aborted || callback?.(...args), report);

/** @param {Context} context @param {unknown} error */
export const report = (context, error) =>
  push(context, () => (context.onError ?? console.error)(error), () => {}); // there is nobody left to tell

/** @param {Context} context @param {() => unknown} run @param {(context: Context, error: unknown) => void} failed */
const push = (context, run, failed) => {
  const call = async () => {
    try {
      await run();
    } catch (error) {
      failed(context, error);
    }
  };
  if (context.queue.push(call) === 1) {
    queueMicrotask(() => {
      for (const next of context.queue) {
        next();
      }
      context.queue = [];
    });
  }
};
