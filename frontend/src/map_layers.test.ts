import { describe, expect, it } from "vitest";
import { Comparison, sideOf } from "./map_compare";
import { frameAt, place, type Box } from "./map_geometry";
import { AGES, History } from "./map_history";
import { MapModel } from "./map_model";
import { countsIn, inWords, pageOf, sheetOf, type Selection } from "./map_select";
import type { MapState } from "./store";
import { numbers } from "./testing";
import type { Owner } from "./wire";

const owner = (byte: number, id: string, name = id): Owner => ({ byte, owner: id, name, letter: "" });
const OWNERS = [owner(0, "free"), owner(1, "hypervisor"), owner(3, "vm:1", "a-db"), owner(4, "vm:2", "b-web")];

function stateOf(bytes: ArrayLike<number>, op = 1, owners: Owner[] = OWNERS): MapState {
  return { type: "map", seq: op, op, owners, map: Uint8Array.from(bytes), violations: new Uint32Array(0), counts: new Uint32Array(256), changed: 0 };
}

const nameOf = (owners: Owner[], byte: number): string => owners.find((each) => each.byte === byte)?.name ?? "?";

describe("a comparison", () => {
  /** The slow twin: names of both sides, frame by frame. */
  function slow(a: MapState, b: MapState): string[] {
    const found = new Map<string, number>();
    a.map.forEach((byte, mfn) => {
      const [from, to] = [nameOf(a.owners, byte), nameOf(b.owners, b.map[mfn] as number)];
      if (from !== to) found.set(`${from} ${to}`, (found.get(`${from} ${to}`) ?? 0) + 1);
    });
    return [...found].map(([pair, pages]) => `${pair} ${pages}`).sort();
  }
  const said = (comparison: Comparison): string[] => comparison.rows().map((row) => `${row.from} ${row.to} ${row.pages}`).sort();

  it("equals the slow twin, for two moments, for another run with its own bytes, and while the present goes on", () => {
    const random = numbers(17);
    const others = [owner(0, "free"), owner(1, "hypervisor"), owner(3, "vm:9", "b-web"), owner(4, "vm:1", "a-mail"), owner(5, "vm:7", "a-db")];
    for (let round = 0; round < 60; round++) {
      const frames = 1 + random(300);
      const pick = (owners: Owner[]): number => (owners[random(owners.length)] as Owner).byte;
      const before = round % 2 === 0 ? OWNERS : others;
      const a = stateOf(Array.from({ length: frames }, () => pick(before)), 1, before);
      const b = stateOf(a.map.map((byte) => (random(4) === 0 || before !== OWNERS ? pick(OWNERS) : byte)), 2);
      const side = sideOf(a);
      const comparison = new Comparison(side, b.map, b.owners);
      expect(said(comparison)).toEqual(slow(a, b));
      for (let i = 0; i < 40; i++) {
        const mfn = random(frames);
        const was = b.map[mfn] as number;
        b.map[mfn] = pick(OWNERS);
        comparison.note(mfn, was, b.map[mfn] as number);
      }
      expect(said(comparison)).toEqual(slow(a, b));
      a.map.forEach((byte, mfn) => expect(comparison.changed(mfn, b.map[mfn] as number)).toBe(nameOf(a.owners, byte) !== nameOf(b.owners, b.map[mfn] as number)));
      a.map.forEach((byte, mfn) => expect(comparison.ownerBefore(mfn)).toBe(nameOf(a.owners, byte)));
    }
  });
});

describe("the history", () => {
  it("knows of every frame how long ago it changed, whether a VM gave it back and whether an attack touched it, as the slow twin does", () => {
    const random = numbers(23);
    const frames = 40;
    const drill = [...OWNERS, owner(5, "vm:3", "drill")];
    let state = stateOf(new Uint8Array(frames), 10);
    const history = new History();
    history.begin(state);
    const last: (number | null)[] = Array<number | null>(frames).fill(null);
    const given = new Set<number>();
    let attacked = new Set<number>();
    const marks = new Uint8Array(frames);
    let attacking = false;
    for (let step = 1; step < 300; step++) {
      const owners = step % 50 > 0 && step % 50 < 3 ? drill : OWNERS;
      const after = stateOf(state.map, 10 + step, owners);
      if (owners === drill && !attacking) attacked = new Set();
      attacking = owners === drill;
      expect(history.next(after)).toBe(true);
      const touched: number[] = [];
      for (let i = random(3); i > 0; i--) {
        const mfn = random(frames);
        const before = after.map[mfn] as number;
        const now = (owners[random(owners.length)] as Owner).byte;
        if (before === now) continue;
        after.map[mfn] = now;
        history.note(mfn, before, now);
        touched.push(mfn);
        last[mfn] = step;
        if (before >= 3 && now === 0) given.add(mfn);
        if (attacking) attacked.add(mfn);
      }
      history.know(owners);
      state = after;
      // Marks kept by touching only what changed or became older equal those computed anew.
      for (const mfn of [...touched, ...history.aged()]) marks[mfn] = history.markOf("age", mfn);
      for (let mfn = 0; mfn < frames; mfn++) {
        const age = last[mfn] === null ? null : step - (last[mfn] as number);
        expect(history.ageOf(mfn)).toBe(age);
        const mark = age === null ? 0 : AGES.length - AGES.findLastIndex((from) => age >= from);
        expect(history.markOf("age", mfn)).toBe(mark);
        expect(marks[mfn]).toBe(mark);
        expect(history.markOf("given", mfn)).toBe(given.has(mfn) ? 1 : 0);
        expect(history.markOf("attack", mfn)).toBe(attacked.has(mfn) ? 1 : 0);
      }
      expect([history.given, history.attacked]).toEqual([given.size, attacked.size]);
    }
    expect(history.next(stateOf(state.map, 12))).toBe(false);
    expect([history.since, history.given, history.ageOf(3)]).toEqual([12, 0, null]);
  });
});

describe("a selection", () => {
  it("counts and lists exactly its pages in both orders", () => {
    const random = numbers(41);
    for (let round = 0; round < 80; round++) {
      const frames = 1 + random(400);
      const model = new MapModel();
      model.follow(stateOf(Array.from({ length: frames }, () => (OWNERS[random(4)] as Owner).byte)));
      model.setOrder(round % 2 === 0 ? "rows" : "hilbert");
      const { grid } = model;
      const [left, top, from] = [random(grid.columns), random(grid.rows), random(frames)];
      const selection: Selection = random(2) === 0 ? { from, to: from + random(frames - from) }
        : { left, top, right: left + random(grid.columns - left), bottom: top + random(grid.rows - top) };
      const inside = (mfn: number): boolean => {
        const { column, row } = place(grid, mfn);
        const box = selection as Box;
        return "from" in selection ? mfn >= selection.from && mfn <= selection.to : column >= box.left && column <= box.right && row >= box.top && row <= box.bottom;
      };
      const slow = Array.from({ length: frames }, (_, mfn) => mfn).filter(inside);
      expect(sheetOf(model, selection).rows).toEqual(slow.map((mfn) => [`0x${mfn.toString(16)}`, `0x${(mfn * 4096).toString(16)}`, nameOf(OWNERS, model.map[mfn] as number)]));
      const counts = countsIn(model, selection);
      for (const { byte } of OWNERS) expect(counts[byte]).toBe(slow.filter((mfn) => model.map[mfn] === byte).length);
      expect(frameAt(grid, -1, 0)).toBeNull();
    }
  });

  it("is said in words, and pages are read as numbers or addresses", () => {
    const model = new MapModel();
    model.follow(stateOf([0, 3, 3, 4]));
    expect(inWords(model, { from: 1, to: 3 })).toBe("3 pages (12 KiB), 0x1 to 0x3: a-db 2, b-web 1");
    expect(["0x2", "3", "0x3000", "4", "0x4000", "x", "-1"].map((text) => pageOf(text, 4))).toEqual([2, 3, 3, 0, null, null, null]);
  });
});
