import { describe, expect, it, vi } from "vitest";
import { DominantPyramid, MaxPyramid, NOTHING, plane, type Plane } from "./map_pyramid";
import { numbers } from "./testing";

/** The slow twins look at every cell of the block. */
function block(base: Plane, level: number, x: number, y: number): number[] {
  const found: number[] = [];
  for (let row = y << level; row < Math.min(base.height, (y + 1) << level); row++) {
    for (let column = x << level; column < Math.min(base.width, (x + 1) << level); column++) found.push(base.bytes[row * base.width + column] as number);
  }
  return found;
}

function slowDominant(bytes: number[], order: readonly number[]): number {
  let [best, found] = [1, NOTHING];
  for (const byte of order) {
    const votes = bytes.filter((each) => each === byte).length;
    if (votes >= best) [best, found] = [votes, byte];
  }
  return found;
}

describe("the pyramid of the highest mark", () => {
  it("equals the slow twin at every level while marks come and go, and finds exactly the marked cells of a box", () => {
    const random = numbers(21);
    for (const [columns, rows] of [[16, 16], [128, 64], [40, 23], [8, 5]] as const) {
      const pyramid = new MaxPyramid(columns, rows);
      const base = pyramid.levels[0] as Plane;
      for (let i = 0; i < 120; i++) pyramid.set(random(columns), random(rows), random(3) === 0 ? random(7) : 0);
      pyramid.levels.forEach((level, number) => {
        for (let y = 0; y < level.height; y++) for (let x = 0; x < level.width; x++) expect(level.bytes[y * level.width + x]).toBe(Math.max(0, ...block(base, number, x, y)));
      });
      const copy = pyramid.levels.map((level) => level.bytes.slice());
      pyramid.rebuild();
      expect(pyramid.levels.map((level) => level.bytes)).toEqual(copy);
      for (let i = 0; i < 20; i++) {
        const [left, top] = [random(columns), random(rows)];
        const [right, bottom] = [left + random(columns - left), top + random(rows - top)];
        const found: string[] = [];
        pyramid.each(left, top, right, bottom, (x, y) => found.push(`${x} ${y}`));
        const slow: string[] = [];
        for (let y = top; y <= bottom; y++) for (let x = left; x <= right; x++) if (pyramid.get(x, y) > 0) slow.push(`${x} ${y}`);
        expect(found.sort()).toEqual(slow.sort());
      }
    }
  });
});

describe("the pyramid of the owner of most", () => {
  it("equals the slow twin at every level, when built and after every change", () => {
    const random = numbers(4);
    const shown = Uint8Array.of(0, 1, 7, 9);
    const classes = new Uint8Array(256).fill(NOTHING);
    shown.forEach((byte, its) => (classes[byte] = its));
    for (const [columns, rows] of [[32, 32], [64, 24], [20, 17]] as const) {
      const base = plane(columns, rows, NOTHING);
      for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) base.bytes[y * base.width + x] = x < 16 && y < 8 ? 7 : (shown[random(4)] as number);
      let pyramid = new DominantPyramid(base, classes, shown);
      const check = (): void => {
        for (const number of [2, 7, 1, 12, 3, 5]) {
          const level = pyramid.level(number);
          for (let y = 0; y < level.height; y++) for (let x = 0; x < level.width; x++) {
            expect(level.bytes[y * level.width + x]).toBe(slowDominant(block(base, number, x, y), [...shown]));
          }
        }
      };
      const change = (): void => {
        const [x, y] = [random(columns), random(rows)];
        const at = y * base.width + x;
        const before = base.bytes[at] as number;
        base.bytes[at] = shown[random(4)] as number;
        pyramid.changed(x, y, before);
      };
      // Counted a row at a time, with changes in between: what is counted already follows, what is not will find them.
      const clock = vi.spyOn(performance, "now");
      for (let done = false; !done; change()) {
        clock.mockReset().mockReturnValueOnce(0).mockReturnValue(1);
        done = pyramid.prepare(0);
      }
      clock.mockRestore();
      check();
      for (let i = 0; i < 300; i++) change();
      check();
      // And counted when it is looked at.
      const late = pyramid;
      pyramid = new DominantPyramid(base, classes, shown);
      check();
      expect(pyramid.level(4)).toEqual(late.level(4));
    }
  });
});
