// docs/clients.md, whose code blocks are run as they stand there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

export const page = await readFile(new URL("../../../docs/clients.md", import.meta.url), "utf8");

/** The code blocks below a heading, up to the next one, that are of a kind such as "sh run". */
export function blocks(heading, kind) {
  const section = page.split(/\n#+ /).find((text) => text.startsWith(`${heading}\n`));
  assert.ok(section, `docs/clients.md has no section ${heading}`);
  const codes = [...section.matchAll(/```(.+)\n([^]*?)\n```/g)].filter(([, is]) => is === kind).map(([, , code]) => code);
  assert.ok(codes.length > 0, `the section ${heading} has no block of ${kind}`);
  return codes;
}
