// The calls of the application's callbacks.

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
export const enqueue = (context, callback, ...args) =>
  push(context, () => context.signal.aborted || callback?.(...args), report);

/** @param {Context} context @param {unknown} error */
export const report = (context, error) =>
  push(context, () => (context.onError ?? console.error)(error), () => {}); // an error of onError is dropped

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
