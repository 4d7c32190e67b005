import { describe, expect, it } from "vitest";
import { boxesOf, fit, frameAt, gridOf, moved, nextCell, place, revealed, sized, zoomed, type Window } from "./map_geometry";
import { numbers } from "./testing";

describe("the grid", () => {
  it.each([[16_384, 128, 128], [65_536, 256, 256], [8192, 128, 64], [16_777_216, 4096, 4096], [1, 1, 1], [1000, 32, 32]])(
    "shows %i frames in %i columns and %i rows", (frames, columns, rows) => expect(gridOf(frames)).toMatchObject({ frames, columns, rows, order: "rows" }));

  it("gives every frame one cell and every cell at most one frame", () => {
    const grid = gridOf(1000);
    for (let mfn = 0; mfn < 1000; mfn++) expect(frameAt(grid, place(grid, mfn).column, place(grid, mfn).row)).toBe(mfn);
    expect([frameAt(grid, 8, 31), frameAt(grid, -1, 0), frameAt(grid, 32, 0), frameAt(grid, 0, -1)]).toEqual([null, null, null, null]);
  });

  it("gives every frame one cell along the curve too, also where the map is half a square", () => {
    for (const frames of [1, 2, 8192, 1000, 600, 16_384, 129]) {
      const grid = gridOf(frames, "hilbert");
      const seen = new Set<string>();
      for (let mfn = 0; mfn < frames; mfn++) {
        const { column, row } = place(grid, mfn);
        expect(frameAt(grid, column, row)).toBe(mfn);
        seen.add(`${column} ${row}`);
        const before = place(grid, Math.max(0, mfn - 1));
        expect(Math.abs(column - before.column) + Math.abs(row - before.row)).toBeLessThanOrEqual(1);
      }
      expect(seen.size).toBe(frames);
    }
    expect(gridOf(8192, "hilbert")).toEqual({ frames: 8192, columns: 128, rows: 64, order: "hilbert", side: 64 });
  });

  it("has boxes for a range of frames that hold exactly these", () => {
    const random = numbers(12);
    for (let round = 0; round < 200; round++) {
      const frames = 1 + random(700);
      const grid = gridOf(frames, round % 2 === 0 ? "rows" : "hilbert");
      const from = random(frames);
      const to = from + random(frames - from);
      const found: number[] = [];
      const boxes = boxesOf(grid, from, to);
      for (const box of boxes) for (let y = box.top; y <= box.bottom; y++) for (let x = box.left; x <= box.right; x++) found.push(frameAt(grid, x, y) ?? -1);
      expect(found.sort((a, b) => a - b)).toEqual(Array.from({ length: to - from + 1 }, (_, i) => from + i));
      if (grid.order === "rows") expect(boxes.length).toBeLessThanOrEqual(3);
    }
  });

  it("fits whole cells, or whole blocks of frames to a pixel, so that the whole map shows", () => {
    expect(fit(gridOf(16_384), { width: 860.6, height: 800 })).toEqual({ cell: 6, column: 0, row: 0, width: 768, height: 768 });
    expect(fit(gridOf(16_777_216), { width: 860.6, height: 700 })).toEqual({ cell: 1 / 8, column: 0, row: 0, width: 512, height: 512 });
    expect(fit(gridOf(16_777_216), { width: 280, height: 700 })).toEqual({ cell: 1 / 16, column: 0, row: 0, width: 256, height: 256 });
    expect(fit(gridOf(65_536), { width: 255, height: 700 })).toEqual({ cell: 1 / 2, column: 0, row: 0, width: 128, height: 128 });
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

  it("never leaves a map larger than the room either, in both orders, and stays on whole pixels", () => {
    const random = numbers(6);
    for (const order of ["rows", "hilbert"] as const) {
      const large = gridOf(1 << 22, order);
      const room = { width: 700, height: 600 };
      const base = fit(large, room).cell;
      let window = fit(large, room);
      for (let i = 0; i < 3000; i++) {
        const what = random(3);
        const mfn = random(1 << 22);
        if (what === 0) {
          const cell = nextCell(base, window.cell, random(2) === 0 ? 1 : -1);
          window = zoomed(large, { ...window, ...sized(large, room, cell) }, cell, random(600), random(600));
        } else if (what === 1) window = moved(large, window, random(6000) - 2000, random(6000) - 2000);
        else window = revealed(large, window, mfn);
        expect(Number.isInteger(window.column * window.cell) || window.cell > 1).toBe(true);
        expect(window.column >= 0 && window.row >= 0 && window.column < large.columns && window.row < large.rows).toBe(true);
        expect((large.columns - window.column) * window.cell).toBeGreaterThanOrEqual(window.width - Math.max(1, window.cell) + 1);
        if (what === 2) {
          const { column, row } = place(large, mfn);
          const [x, y] = [(column - window.column) * window.cell, (row - window.row) * window.cell];
          expect(x >= 0 && y >= 0 && x < window.width && y < window.height).toBe(true);
        }
      }
    }
  });

  it("keeps the frame under the pointer when zooming, within a cell", () => {
    const before = moved(grid, { ...whole, cell: 12 }, 30, 30);
    const after = zoomed(grid, before, 24, 300, 300);
    expect(Math.abs(after.column + 300 / 24 - (before.column + 300 / 12))).toBeLessThanOrEqual(1);
  });
});
