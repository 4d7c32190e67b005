import { describe, expect, it } from "vitest";
import { fit, gridOf, moved, place, sized, type Grid, type Window } from "./map_geometry";
import { MaxPyramid } from "./map_pyramid";
import { around, rings } from "./map_rings";
import { numbers } from "./testing";

function layer(grid: Grid, frames: Iterable<number>): MaxPyramid {
  const wrong = new MaxPyramid(grid.columns, grid.rows);
  for (const mfn of frames) wrong.set(place(grid, mfn).column, place(grid, mfn).row, 1);
  return wrong;
}

/** Whether any pixel of the frame's cell lies in the window. */
function inside(grid: Grid, window: Window, mfn: number): boolean {
  const { column, row } = place(grid, mfn);
  const [x, y] = [(column - window.column) * window.cell, (row - window.row) * window.cell];
  return x + window.cell > 0 && y + window.cell > 0 && x < window.width && y < window.height;
}

describe("violation rings", () => {
  it("drop nothing: at every zoom and scroll position their numbers add up to the violations in the window, and none touches another", () => {
    const random = numbers(3);
    for (const order of ["rows", "hilbert"] as const) {
      const grid = gridOf(65_536, order);
      const frames = new Set(Array.from({ length: 400 }, () => random(2) === 0 ? random(65_536) : 3000 + random(60)));
      const wrong = layer(grid, frames);
      for (let round = 0; round < 100; round++) {
        const cell = 2 ** (random(9) - 2);
        const room = { width: 1 + random(400), height: 1 + random(400) };
        const window = moved(grid, { cell, column: 0, row: 0, ...sized(grid, room, cell) }, random(256), random(256));
        const found = rings(grid, window, wrong, 14);
        expect(found.reduce((sum, ring) => sum + ring.count, 0)).toBe([...frames].filter((mfn) => inside(grid, window, mfn)).length);
        expect(found.filter((a) => a.x < 0 || a.y < 0 || a.x >= window.width || a.y >= window.height)).toEqual([]);
        const near = found.flatMap((a, i) => found.slice(i + 1).filter((b) => Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y)) < 14));
        expect(near).toEqual([]);
      }
    }
  });

  it("show five lone pages of 16,777,216 at every zoom, where the owner of most shows none of them", () => {
    for (const order of ["rows", "hilbert"] as const) {
      const grid = gridOf(1 << 24, order);
      const five = [17, 1_000_003, 5_555_555, 9_999_999, 16_777_215];
      const wrong = layer(grid, five);
      for (let cell = 1 / 16; cell <= 64; cell *= 2) {
        const size = sized(grid, { width: 800, height: 700 }, cell);
        if (cell <= fit(grid, { width: 800, height: 700 }).cell) {
          expect(rings(grid, { cell, column: 0, row: 0, ...size }, wrong, 14).reduce((sum, ring) => sum + ring.count, 0)).toBe(5);
        }
        for (const mfn of five) {
          const { column, row } = place(grid, mfn);
          const window = moved(grid, { cell, column: 0, row: 0, ...size }, column - 3, row - 3);
          expect(rings(grid, window, wrong, 14).length).toBeGreaterThan(0);
        }
      }
    }
  });

  it("are stepped through in order, round the ends", () => {
    const sorted = Uint32Array.of(3, 7, 40);
    expect([0, 3, 7, 40, 41].map((mfn) => around(sorted, mfn, 1))).toEqual([3, 7, 40, 3, 3]);
    expect([0, 3, 7, 40, 41].map((mfn) => around(sorted, mfn, -1))).toEqual([40, 40, 3, 7, 40]);
    expect(around(new Uint32Array(0), 5, 1)).toBeUndefined();
  });
});
