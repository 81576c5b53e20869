// Numbers as people write them.

const euros = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
const whole = new Intl.NumberFormat("en");

export const money = (cents) => euros.format(cents / 100);
export const count = (n) => whole.format(n);
export const percent = (n) => (n === undefined ? "–" : `${n.toFixed(1)} %`);

/** An amount as it stands in a field. */
export const amount = (cents) => (cents / 100).toFixed(2);

export function parseAmount(text) {
  const m = /^(\d{1,9})(?:[.,](\d{1,2}))?$/.exec(text.trim());
  if (!m) {
    throw new Error(`“${text}” is not an amount such as 12.50`);
  }
  return Number(m[1]) * 100 + Number((m[2] ?? "").padEnd(2, "0"));
}

export function parseCount(text) {
  if (!/^-?\d{1,9}$/.test(text.trim())) {
    throw new Error(`“${text}” is not a whole number`);
  }
  return Number(text);
}

export const parseText = (text) => text.trim();
