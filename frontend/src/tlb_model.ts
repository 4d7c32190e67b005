/** The TLB without a page: where entries lie, what changed between two states, which cells translate an address. */

import { waysPerCore, type Geometry, type TlbEntry } from "./wire";
import { say, t, tn } from "./words";

export interface Slot { core: number; level: 1 | 2; set: number; way: number }
export type Cell = TlbEntry | null;

/** Where entry `index` of the wire lies: per core first level 1, then level 2, each set by set. */
export function slotOf(geometry: Geometry, index: number): Slot {
  const perCore = waysPerCore(geometry);
  const core = Math.floor(index / perCore);
  const first = geometry.l1.sets * geometry.l1.ways;
  const inCore = index % perCore;
  const level = inCore < first ? 1 : 2;
  const shape = level === 1 ? geometry.l1 : geometry.l2;
  const at = level === 1 ? inCore : inCore - first;
  return { core, level, set: Math.floor(at / shape.ways), way: at % shape.ways };
}

export const placeWords = ({ core, level, set, way }: Slot): string => t("core {core}, level {level}, set {set}, way {way}", { core, level, set, way });
export const sizeWord = (pages: number): string => (pages === 1 ? "4K" : pages === 512 ? "2M" : `${pages}p`);
export const pageWord = (entry: TlbEntry): string => (entry.dim === 1 ? t("guest page") : t("virtual page"));

/** The cells of the set in which `index` lies. */
export function setOf(geometry: Geometry, cells: readonly Cell[], index: number): Cell[] {
  const { level, way } = slotOf(geometry, index);
  const { ways } = level === 1 ? geometry.l1 : geometry.l2;
  return Array.from({ length: ways }, (_, i) => cells[index - way + i] ?? null);
}

const same = (a: TlbEntry, b: TlbEntry): boolean => a.vpn === b.vpn && a.owner === b.owner && a.size === b.size && a.dim === b.dim;

/** Whether the two cells look alike. */
export const alike = (a: Cell, b: Cell): boolean =>
  a === b || (a !== null && b !== null && same(a, b) && a.perm === b.perm && a.age === b.age && a.state === b.state && a.mfn === b.mfn);

/** `mark` stands in the cell, `says` is the sentence of the list. */
export interface Changed { index: number; mark: string; says: string }

/**
 * What happened to the cells of one core between two states, as far as the states tell: many operations may lie between
 * them. A tick: a level held the page before; a cross: none did, so there was a miss.
 */
export function changes(geometry: Geometry, before: readonly Cell[], now: readonly Cell[], core: number, name: (entry: TlbEntry) => string, lru: boolean): Changed[] {
  const first = core * waysPerCore(geometry);
  const key = (entry: TlbEntry): string => `${entry.dim} ${entry.owner} ${entry.vpn} ${entry.size}`;
  const known = new Set<string>();
  for (let i = first; i < first + waysPerCore(geometry); i++) {
    const entry = before[i];
    if (entry != null) known.add(key(entry));
  }
  const found: Changed[] = [];
  for (let index = first; index < first + waysPerCore(geometry); index++) {
    const [old, entry] = [before[index] ?? null, now[index] ?? null];
    if (old === entry) continue;
    const says = (words: string): string => `${placeWords(slotOf(geometry, index))}: ${words}`;
    if (entry === null) found.push({ index, mark: t("dropped {page}", { page: old?.vpn ?? "" }), says: says(t("{entry} was dropped", { entry: name(old as TlbEntry) })) });
    else if (old === null || !same(old, entry)) {
      const held = known.has(key(entry));
      const gone = old === null ? "" : ` ${t("and evicted {entry}", { entry: name(old) })}`;
      const mark = `${held ? "✓" : "✗"} ${old === null ? t("new") : t("evicted {page}", { page: old.vpn })}`;
      const fresh = held ? t("{entry} is new, the core held it already", { entry: name(entry) }) : t("{entry} is new after a miss", { entry: name(entry) });
      found.push({ index, mark, says: says(fresh + gone) });
    } else if (old.state !== entry.state) found.push({ index, mark: "", says: says(entry.state === "ok" ? t("{entry} is true again", { entry: name(entry) }) : t("{entry} is now {state}", { entry: name(entry), state: say(entry.state) })) });
    else if (lru && entry.age === 0 && old.age > 0) found.push({ index, mark: `✓ ${t("used")}`, says: says(t("{entry} was used", { entry: name(entry) })) });
  }
  return found;
}

export type PinKind = "page" | "address" | "frame";
export interface Pin { kind: PinKind; page: number }

/** What a person typed as hex, with or without 0x; null if it is no such number. */
export function readPin(kind: PinKind, text: string): Pin | null {
  const digits = /^\s*(?:0x)?([0-9a-f]{1,12})\s*$/i.exec(text)?.[1];
  if (digits === undefined) return null;
  const value = parseInt(digits, 16);
  return { kind, page: kind === "address" ? Math.floor(value / 4096) : value };
}

/** Whether the entry translates the pinned page, or reaches the pinned frame; a 2 MiB entry covers 512 of them. */
export function covers(entry: Cell, pin: Pin): boolean {
  if (entry === null) return false;
  const first = pin.kind === "frame" ? entry.mfn : Number(entry.vpn);
  return first <= pin.page && pin.page < first + entry.size;
}

export function pinWords(geometry: Geometry, cells: readonly Cell[], pin: Pin, name: (entry: TlbEntry) => string): string {
  const what = `${pin.kind === "frame" ? t("Frame") : t("Page")} 0x${pin.page.toString(16)}`;
  const holders = cells.filter((entry): entry is TlbEntry => covers(entry, pin));
  if (holders.length === 0) return t("{what}: no core holds it.", { what });
  const shown = holders.slice(0, 6).map((entry) => `${placeWords(slotOf(geometry, entry.index))} (${name(entry)}${entry.size > 1 ? `, ${t("by a 2 MiB entry")}` : ""}${entry.state === "ok" ? "" : `, ${say(entry.state)}`})`);
  const more = holders.length > shown.length ? ` ${t("and {n} more", { n: holders.length - shown.length })}` : "";
  return tn("{what} is held by {n} entry: {places}.", "{what} is held by {n} entries: {places}.", holders.length, { what, places: shown.join("; ") + more });
}

/** The next index after `from`, round and round, whose cell has this state; -1 if there is none. */
export function nextOf(cells: readonly Cell[], state: string, from: number, step: 1 | -1 = 1): number {
  for (let i = 1; i <= cells.length; i++) {
    const index = (from + step * i + 2 * cells.length) % cells.length;
    if (cells[index]?.state === state) return index;
  }
  return -1;
}
