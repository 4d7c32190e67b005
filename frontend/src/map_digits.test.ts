import { expect, it } from "vitest";
import { writeNumber, writeNumbers, type Digits } from "./map_digits";
import { gridOf } from "./map_geometry";

/** Digits of one pixel each whose ink is the digit itself: what is written can be read back. */
const digits: Digits = { width: 1, height: 1, ink: Uint8Array.from({ length: 16 }, (_, i) => i) };
const ramp = Uint32Array.from({ length: 16 }, (_, i) => 100 + i);

it("every cell holds its own page number, also where the window cuts cells", () => {
  const grid = gridOf(65_536);
  const window = { cell: 8, column: 3, row: 250, width: 30, height: 20 };
  const out = new Uint32Array(window.width * window.height);
  writeNumbers(out, grid, window, new Uint8Array(65_536), digits, [ramp]);
  for (let row = 0; row < 2; row++) {
    for (let column = 0; column < 3; column++) {
      const text = ((250 + row) * 256 + 3 + column).toString(16);
      const from = (row * 8 + 5) * window.width + column * 8 + ((7 - text.length) >> 1);
      expect([...out.slice(from, from + text.length)].map((each) => (each - 100).toString(16)).join("")).toBe(text);
    }
  }
});

it("nothing is written outside the picture", () => {
  const out = new Uint32Array(4).fill(7);
  writeNumber(out, 2, 2, -1, 1, "123", digits, ramp);
  expect([...out]).toEqual([102, 103, 7, 7]);
  writeNumber(out, 2, 2, 0, 9, "1", digits, ramp);
  expect([...out]).toEqual([102, 103, 7, 7]);
});
