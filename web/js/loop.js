// A for-await loop over what callbacks bring.

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
export function loopOf(begin, take) {
  let over = false;
  /** @type {(value?: any) => void} */
  let resume = () => {};
  const ended = () => {
    over = true;
    resume();
  };
  const loop = (async function* () {
    const end = begin(() => resume(), ended);
    try {
      while (!over) {
        const value = take();
        if (value) {
          yield value;
        } else {
          await new Promise((resolve) => (resume = resolve));
        }
      }
    } finally {
      end();
    }
  })();
  // A generator that waits does not see return and throw, so it is woken.
  for (const how of /** @type {const} */ (["return", "throw"])) {
    const finish = loop[how];
    loop[how] = (value) => {
      ended();
      return finish.call(loop, value);
    };
  }
  return loop;
}
