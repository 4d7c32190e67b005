import { expect, it } from "vitest";
import { numbers } from "./testing";
import { fillsBefore, sentencesOf } from "./tlb_flush";
import { changes, covers, nextOf, pinWords, readPin, setOf, slotOf, type Cell } from "./tlb_model";
import { entriesShown } from "./tlb_table";
import type { TlbEntry } from "./wire";

const GEOMETRY = { cores: 2, l1: { sets: 2, ways: 2 }, l2: { sets: 2, ways: 3 } };
const TOTAL = 20;
const entry = (index: number, vpn: string, more: Partial<TlbEntry> = {}): TlbEntry => ({ index, vpn, owner: 3, size: 1, perm: "rw", age: 0, state: "ok", dim: 2, mfn: 100, ...more });
const name = (each: TlbEntry): string => `vm ${each.owner} ${each.vpn}`;
const cells = (...filled: TlbEntry[]): Cell[] => {
  const all = new Array<Cell>(TOTAL).fill(null);
  for (const each of filled) all[each.index] = each;
  return all;
};

it("every index of the wire lies in one place, counted like a slow twin", () => {
  const geometry = { cores: 2, l1: { sets: 16, ways: 4 }, l2: { sets: 128, ways: 12 } };
  let index = 0;
  for (let core = 0; core < 2; core++) {
    for (const level of [1, 2] as const) {
      const shape = level === 1 ? geometry.l1 : geometry.l2;
      for (let set = 0; set < shape.sets; set++) for (let way = 0; way < shape.ways; way++) expect(slotOf(geometry, index++)).toEqual({ core, level, set, way });
    }
  }
});

it("says of each cell what the two states tell: new after a miss, held before, evicted, dropped, now STALE, used", () => {
  const before = cells(entry(0, "0x1"), entry(1, "0x2"), entry(2, "0x3"), entry(3, "0x4", { age: 1 }), entry(4, "0x9"), entry(11, "0x7"));
  const now = cells(entry(0, "0x9"), entry(2, "0x3", { state: "STALE" }), entry(3, "0x4"), entry(4, "0x9"), entry(5, "0x5"));
  const found = changes(GEOMETRY, before, now, 0, name, true);
  expect(found.map(({ index, mark }) => [index, mark])).toEqual([[0, "✓ evicted 0x1"], [1, "dropped 0x2"], [2, ""], [3, "✓ used"], [5, "✗ new"]]);
  expect(found[0]?.says).toBe("core 0, level 1, set 0, way 0: vm 3 0x9 is new, the core held it already and evicted vm 3 0x1");
  expect(found[2]?.says).toContain("is now STALE");
  expect(changes(GEOMETRY, before, now, 1, name, false).map(({ index }) => index)).toEqual([11]);
  expect(changes(GEOMETRY, now, before, 0, name, false)).toHaveLength(4);  // time may go back
});

it("a pin is found in pages, in addresses, in frames and inside 2 MiB entries, and said when no core holds it", () => {
  const all = cells(entry(0, "0x1a2f3"), entry(7, "0x200", { size: 512, mfn: 1024, dim: 1 }));
  const held = (kind: "page" | "address" | "frame", text: string): number[] => {
    const pin = readPin(kind, text);
    return pin === null ? [-1] : all.flatMap((each, i) => (covers(each, pin) ? [i] : []));
  };
  expect([held("page", "1a2f3"), held("address", "0x1a2f3fff"), held("page", "0x3ff"), held("page", "0x400"), held("frame", "5ff"), held("page", "xyz")])
    .toEqual([[0], [0], [7], [], [7], [-1]]);
  expect(pinWords(GEOMETRY, all, { kind: "page", page: 0x400 }, name)).toBe("Page 0x400: no core holds it.");
  expect(pinWords(GEOMETRY, all, { kind: "page", page: 0x3ff }, name)).toBe("Page 0x3ff is held by 1 entry: core 0, level 2, set 1, way 0 (vm 3 0x200, by a 2 MiB entry).");
});

it("STALE entries pass every filter and come first, and next goes round both ways", () => {
  const all = cells(entry(0, "0x1"), entry(3, "0x2", { owner: 4 }), entry(6, "0x3", { owner: 4, state: "STALE" }), entry(15, "0x4", { state: "STALE" }));
  expect(entriesShown(all, 3, { kind: "page", page: 1 }).map(({ index }) => index)).toEqual([6, 15, 0]);
  expect([nextOf(all, "STALE", -1), nextOf(all, "STALE", 6), nextOf(all, "STALE", 15), nextOf(all, "STALE", 15, -1), nextOf(all, "STALE", -1, -1), nextOf(all, "PENDING", 3)]).toEqual([6, 15, 6, 6, 15, -1]);
});

it("the fills that are left are those of a set of boxes filled one by one", () => {
  const draw = numbers(7);
  for (let round = 0; round < 300; round++) {
    const ways = 1 + draw(6);
    const turn = draw(ways);
    const full = Array.from({ length: ways }, () => draw(3) > 0);
    const at = draw(ways);
    full[at] = true;
    const set = full.map((is, way): Cell => (is ? entry(way, "0x1", { age: (turn + ways - 1 - way) % ways }) : null));
    let [fills, hand] = [0, turn];
    for (let gone = false; !gone; fills++) {
      const empty = full.indexOf(false);
      if (empty >= 0) full[empty] = true;
      else {
        gone = hand === at;
        hand = (hand + 1) % ways;
      }
    }
    expect(fillsBefore(set[at] as TlbEntry, set, false)).toBe(fills);
  }
});

it("sentences are those of this entry on this machine, whole, and of nothing that is unknown", () => {
  const huge = entry(4, "0x200", { size: 512, dim: 1 });
  const all = cells(huge);
  expect(setOf(GEOMETRY, all, 4)).toEqual([huge, null, null]);
  const machine = { architecture: "hsvm", shoots: true, lru: false, flush: "on_change" };
  const { drops, leaves } = sentencesOf(huge, all, GEOMETRY, "a-db", machine);
  expect(drops.join(" ")).toContain("takes guest page 0x200 or another of the 512 up to 0x3ff from a-db");
  expect(drops.join(" ")).toContain("another VM on core 0");
  expect(drops.at(-1)).toBe("New translations that fall into set 0 of level 2: the 5th from now takes its place, used or not, as long as nothing else of the set is dropped.");
  expect(drops.concat(leaves).join(" ")).not.toMatch(/[{}]/);
  const unknown = sentencesOf(huge, all, GEOMETRY, "a-db", undefined);
  expect(unknown.drops.concat(unknown.leaves).join(" ")).not.toMatch(/shot down|agreement/);
  expect(sentencesOf(huge, all, GEOMETRY, undefined, machine).drops).toHaveLength(1);
  expect(sentencesOf({ ...huge, state: "PENDING" }, all, GEOMETRY, "a-db", machine).drops.join(" ")).toContain("that was stopped is completed");
});
