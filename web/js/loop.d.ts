/**
 * Makes a loop, which ends quietly.
 *
 * @template {object} T
 * @param {(wake: () => void, ended: () => void) => () => void} begin  begins what the loop is about,
 *   when the loop does: it wakes the loop when there may be a value, or ends the loop. It returns
 *   what ends it
 * @param {() => T | undefined} take  takes the next value, if there is one
 * @returns {AsyncGenerator<T, void, undefined>}
 */
export declare function loopOf<T extends object>(begin: (wake: () => void, ended: () => void) => () => void, take: () => T | undefined): AsyncGenerator<T, void, undefined>;
