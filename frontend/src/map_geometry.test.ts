import { describe, expect, it } from "vitest";
import { extents, extentStep, fit, frameAt, gridOf, moved, nextCell, place, revealed, rings, zoomed, type Window } from "./map_geometry";
import { numbers } from "./testing";

/** The slow twin of extents: one frame at a time. */
function slowExtents(map: Uint8Array): { start: number; length: number; byte: number }[] {
  const found: { start: number; length: number; byte: number }[] = [];
  map.forEach((byte, mfn) => {
    const last = found.at(-1);
    if (last !== undefined && last.byte === byte) last.length += 1;
    else found.push({ start: mfn, length: 1, byte });
  });
  return found;
}

describe("the grid", () => {
  it.each([[16_384, 128, 128], [65_536, 256, 256], [8192, 128, 64], [16_777_216, 4096, 4096], [1, 1, 1], [1000, 32, 32]])(
    "shows %i frames in %i columns and %i rows", (frames, columns, rows) => expect(gridOf(frames)).toEqual({ frames, columns, rows }));

  it("gives every frame one cell and every cell at most one frame", () => {
    const grid = gridOf(1000);
    for (let mfn = 0; mfn < 1000; mfn++) expect(frameAt(grid, place(grid, mfn).column, place(grid, mfn).row)).toBe(mfn);
    expect([frameAt(grid, 8, 31), frameAt(grid, -1, 0), frameAt(grid, 32, 0), frameAt(grid, 0, -1)]).toEqual([null, null, null, null]);
  });

  it("fits whole cells only, at least one pixel each", () => {
    expect(fit(gridOf(16_384), { width: 860.6, height: 800 })).toEqual({ cell: 6, column: 0, row: 0, width: 768, height: 768 });
    expect(fit(gridOf(16_777_216), { width: 860.6, height: 700 })).toEqual({ cell: 1, column: 0, row: 0, width: 860, height: 700 });
  });
});

describe("the window", () => {
  const grid = gridOf(16_384);
  const whole = fit(grid, { width: 768, height: 768 });

  it("never leaves the map, whatever is done, and a revealed frame is inside", () => {
    const random = numbers(5);
    let window: Window = whole;
    for (let i = 0; i < 2000; i++) {
      const what = random(3);
      const mfn = random(16_384);
      if (what === 0) window = zoomed(grid, window, nextCell(6, window.cell, random(2) === 0 ? 1 : -1), random(768), random(768));
      else if (what === 1) window = moved(grid, window, random(400) - 200, random(400) - 200);
      else window = revealed(grid, window, mfn);
      expect(window.column).toBeGreaterThanOrEqual(0);
      expect(window.row).toBeGreaterThanOrEqual(0);
      expect((grid.columns - window.column) * window.cell).toBeGreaterThanOrEqual(window.width - window.cell + 1);
      if (what === 2) {
        const { column, row } = place(grid, mfn);
        expect((column - window.column) * window.cell).toBeGreaterThanOrEqual(0);
        expect((column - window.column + 1) * window.cell).toBeLessThanOrEqual(window.width);
        expect((row - window.row + 1) * window.cell).toBeLessThanOrEqual(window.height);
      }
    }
  });

  it("keeps the frame under the pointer when zooming, within a cell", () => {
    const before = moved(grid, { ...whole, cell: 12 }, 30, 30);
    const after = zoomed(grid, before, 24, 300, 300);
    expect(Math.abs(after.column + 300 / 24 - (before.column + 300 / 12))).toBeLessThanOrEqual(1);
  });
});

describe("extents", () => {
  it("equal those of the slow twin, and steps visit exactly their starts", () => {
    const random = numbers(7);
    for (let round = 0; round < 50; round++) {
      const map = Uint8Array.from({ length: 1 + random(60) }, () => random(3));
      const slow = slowExtents(map);
      expect(extents(map)).toEqual(slow);
      const forward = [0];
      for (let at = 0; extentStep(map, at, 1) !== at; ) forward.push((at = extentStep(map, at, 1)));
      expect(forward).toEqual(slow.map((each) => each.start));
      const back = [slow.at(-1)?.start ?? 0];
      for (let at = back[0] as number; extentStep(map, at, -1) !== at; ) back.push((at = extentStep(map, at, -1)));
      expect(back.reverse()).toEqual(forward);
    }
  });
});

describe("violation rings", () => {
  it("drop nothing: the numbers add up to the violations in the window", () => {
    const random = numbers(3);
    const grid = gridOf(16_384);
    const wrong = Uint32Array.from({ length: 300 }, () => random(16_384));
    for (const cell of [1, 6, 24]) {
      const window = moved(grid, { cell, column: 0, row: 0, width: 128 * 6, height: 128 * 6 }, 20, 20);
      const inside = [...wrong].filter((mfn) => {
        const { column, row } = place(grid, mfn);
        return column >= window.column && row >= window.row && (column - window.column + 0.5) * cell < window.width && (row - window.row + 0.5) * cell < window.height;
      });
      expect(rings(grid, window, wrong, 14).reduce((sum, ring) => sum + ring.count, 0)).toBe(inside.length);
    }
  });
});
