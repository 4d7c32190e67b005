/** What would drop an entry, and what would not, in sentences. The rows are data; a test of the engine does what they say. */

import rules from "./tlb_rules.json";
import { pageWord, setOf, slotOf, type Cell } from "./tlb_model";
import type { Geometry, TlbEntry } from "./wire";
import { language, t } from "./words";

/** Of the machine of a run: does an unmap shoot down, exact LRU, and what the agreement wants flushed at a world switch. */
export interface Machine { architecture: string; shoots: boolean; lru: boolean; flush: string }
export interface Sentences { drops: string[]; leaves: string[] }

interface Rule { op: string; drops: boolean; says: string; dim?: number; state?: string; shoots?: boolean; flush?: string; lives?: boolean }

/** How many new translations into its set there are until this entry is replaced; the last of them does it. */
export function fillsBefore(entry: TlbEntry, set: readonly Cell[], lru: boolean): number {
  return set.length - entry.age + (lru ? 0 : set.filter((each) => each === null).length);
}

/** `machine` is undefined where the page does not know it: then only what holds on every machine is said. */
export function sentencesOf(entry: TlbEntry, cells: readonly Cell[], geometry: Geometry, vm: string | undefined, machine: Machine | undefined): Sentences {
  const { core, level, set } = slotOf(geometry, entry.index);
  const facts: Record<string, unknown> = { dim: entry.dim, state: entry.state, lives: vm !== undefined, shoots: machine?.shoots, flush: machine?.flush };
  const first = Number(entry.vpn);
  const hex = (value: number): string => `0x${value.toString(16)}`;
  const words: Record<string, string> = {
    vm: vm ?? "", core: String(core), level: String(level), set: String(set), architecture: machine?.architecture ?? "",
    address: hex(first * 4096), pages: entry.size === 1 ? hex(first) : t("{first} or another of the {size} up to {last}", { first: hex(first), size: entry.size, last: hex(first + entry.size - 1) }),
    turn: turnWords(fillsBefore(entry, setOf(geometry, cells, entry.index), machine?.lru ?? false), machine?.lru ?? false),
  };
  const out: Sentences = { drops: [], leaves: [] };
  for (const rule of rules as Rule[]) {
    if (Object.entries(facts).some(([name, fact]) => name in rule && rule[name as keyof Rule] !== fact)) continue;
    out[rule.drops ? "drops" : "leaves"].push(t(rule.says, words));
  }
  return out;
}

function turnWords(fills: number, lru: boolean): string {
  if (fills === 1) return lru ? t("the next one takes its place, unless it is used before") : t("the next one takes its place, used or not");
  const parts = { ordinal: ordinal(fills) };
  return lru ? t("the {ordinal} from now takes its place, unless it is used before, as long as nothing else of the set is dropped", parts)
    : t("the {ordinal} from now takes its place, used or not, as long as nothing else of the set is dropped", parts);
}

function ordinal(value: number): string {
  if (language !== "en") return `${value}.`;
  const tail = value % 100 > 10 && value % 100 < 14 ? "th" : (["th", "st", "nd", "rd"][value % 10] ?? "th");
  return `${value}${tail}`;
}

export const kindOf = (entry: TlbEntry): string => (entry.dim === 2 ? t("{page} of the guest's own tables", { page: pageWord(entry) }) : pageWord(entry));
