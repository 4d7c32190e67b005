/** What may stand at a place of an attack file, from the schema of its language: pure words, no page. */

import schema from "../../hsvm_engine/schemas/attack.schema.json";

interface Part { properties?: Record<string, Part>; required?: string[]; const?: unknown; enum?: unknown[]; anyOf?: Part[]; $ref?: string }
export interface Choice { label: string; detail: string; apply: string }

const top = schema as unknown as Part & { $defs: Record<string, Part> };
const OPERATION = /^op_/;
const STEPS = ["op", "let", "repeat", "victim", "note"];
const PHASES = ["setup", "victim", "attacker", "after"];

/** Every operation with its fields, as they are required. */
export const operations: Record<string, { fields: string[]; binds: boolean }> = Object.fromEntries(
  Object.entries(top.$defs).filter(([name]) => OPERATION.test(name)).map(([name, part]) => [name.slice(3), {
    fields: (part.required ?? []).filter((field) => field !== "op"), binds: part.properties?.["as"] !== undefined,
  }]));

const words = (part: Part | undefined): string[] => [...(part?.enum ?? []), ...(part?.anyOf ?? []).flatMap((each) => words(each))].map(String);
const indentOf = (line: string): number => line.length - line.trimStart().length;

/** The names that are bound above a line: of results, and by let. */
export function names(lines: readonly string[], before: number): string[] {
  const found = new Set<string>(["secret"]);
  let block = -1;
  for (const line of lines.slice(0, before)) {
    const bound = /^\s*as:\s*([a-z]\w*)/.exec(line)?.[1];
    if (bound !== undefined) found.add(bound);
    const depth = indentOf(line.replace(/^(\s*)- /, "$1  "));
    if (block >= 0 && line.trim() !== "" && depth <= block) block = -1;
    const set = block >= 0 ? /^\s*([a-z]\w*):/.exec(line)?.[1] : undefined;
    if (set !== undefined) found.add(set);
    if (/^\s*(- )?let:\s*$/.test(line)) block = depth;
  }
  return [...found];
}

/** The keys and the operation of the step that a line is part of. */
function stepAt(lines: readonly string[], at: number): { op: string; keys: Set<string> } {
  const depth = indentOf((lines[at] ?? "").replace(/^(\s*)- ?/, "$1  "));
  const keys = new Set<string>();
  let op = "";
  const take = (line: string): void => {
    const match = /^\s*(?:- )?([a-z_]+):\s*(\S*)/.exec(line);
    if (match === null) return;
    keys.add(match[1] ?? "");
    if (match[1] === "op") op = match[2] ?? "";
  };
  const isStart = (line: string): boolean => /^\s*- /.test(line) && indentOf(line) === depth - 2;
  let first = at;
  while (first > 0 && !isStart(lines[first] ?? "") && indentOf(lines[first] ?? "") >= depth) first -= 1;
  for (let i = first; i < lines.length; i += 1) {
    const line = lines[i] ?? "";
    if (i > first && (isStart(line) || (line.trim() !== "" && indentOf(line) < depth))) break;
    if (i !== at) take(line);
  }
  return { op, keys };
}

/** The choices at the end of `head`, the part of line `at` before the cursor; `from`: where in the line the typed word begins. */
export function choices(lines: readonly string[], at: number, head: string): { from: number; found: Choice[] } {
  const from = /[\w$.]*$/.exec(head)?.index ?? head.length;
  const plain = (label: string, detail = "", apply = label): Choice => ({ label, detail, apply });
  const value = /^(\s*)(?:- )?([a-z_]+):\s+[\w$.]*$/.exec(head);
  if (value !== null) {
    const [key, indent] = [value[2] ?? "", indentOf(head.replace(/^(\s*)- /, "$1  "))];
    if (key === "op") {
      const pad = " ".repeat(indent);
      const skeleton = (name: string): string => [name, ...(operations[name]?.fields ?? []).map((field) => `${pad}${field}: `)].join("\n");
      const begun = stepAt(lines, at).keys.size > 0;
      return { from, found: Object.entries(operations).map(([name, { fields }]) => plain(name, fields.join(" "), begun ? name : skeleton(name))) };
    }
    const enumerated = words(top.properties?.[key]);
    if (indent === 0 && enumerated.length > 0) return { from, found: enumerated.map((word) => plain(word)) };
    return { from, found: names(lines, at).map((name) => plain(`$${name}`)) };
  }
  const item = /^(\s*)- [a-z_]*$/.exec(head);
  if (item !== null) {
    const port = lines.slice(0, at).findLast((line) => /^[a-z]/.test(line))?.startsWith("port:");
    if (port) return { from, found: words(top.properties?.["port"]).map((word) => plain(word)) };
    const keys = STEPS.map((key) => plain(key, "", key === "op" || key === "note" || key === "repeat" ? `${key}: ` : `${key}:`));
    return { from, found: keys };
  }
  if (/^[a-z_]*$/.test(head)) {
    const written = new Set(lines.map((line) => /^([a-z_]+):/.exec(line)?.[1]));
    return { from, found: Object.keys(top.properties ?? {}).filter((key) => !written.has(key)).map((key) => plain(key, "", PHASES.includes(key) ? `${key}:` : `${key}: `)) };
  }
  if (/^\s+[a-z_]*$/.test(head)) {
    const { op, keys } = stepAt(lines, at);
    const known = operations[op];
    const fields = known === undefined ? [] : [...known.fields, ...(known.binds ? ["as"] : [])];
    return { from, found: fields.filter((field) => !keys.has(field)).map((field) => plain(field, op, `${field}: `)) };
  }
  return { from, found: [] };
}
