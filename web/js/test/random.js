// Numbers that are random, and the same again by the same seed.

/** Returns what draws a number below n: a linear congruential generator. */
export function randomBy(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * n);
  };
}
