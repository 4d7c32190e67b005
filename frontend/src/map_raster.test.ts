import { describe, expect, it } from "vitest";
import { gridOf } from "./map_geometry";
import { paint, stampOf, stampsOf } from "./map_raster";
import { LOOKS, lookOf, pixel } from "./palette";
import { numbers } from "./testing";
import type { Owner } from "./wire";

const OWNERS: Owner[] = [
  { byte: 0, owner: "free", name: "free", letter: "" }, { byte: 1, owner: "hypervisor", name: "hypervisor", letter: "" },
  { byte: 2, owner: "hsvm", name: "hsvm", letter: "" }, ..."ABCDEFG".split("").map((letter, i) => ({ byte: 3 + i, owner: `vm:${i}`, name: letter, letter })),
  { byte: 254, owner: "other", name: "other", letter: "" },
];
const scribble = (stamp: Uint32Array): unknown => stamp.fill(0xff123456);

describe("painting", () => {
  it("puts the owner's base colour at the top left of every cell, at every size, whatever texture or letter lies on it", () => {
    const random = numbers(9);
    for (const cell of [1, 2, 3, 4, 6, 7, 8, 12, 24, 33]) {
      const grid = gridOf(256);
      const map = Uint8Array.from({ length: 256 }, () => OWNERS[random(OWNERS.length)]?.byte ?? 0);
      const window = { cell, column: 0, row: 0, width: 16 * cell, height: 16 * cell };
      const out = new Uint32Array(window.width * window.height);
      paint(out, map, grid, window, stampsOf(OWNERS, cell, scribble));
      map.forEach((byte, mfn) => {
        const at = Math.floor(mfn / 16) * cell * window.width + (mfn % 16) * cell;
        expect(out[at]).toBe(pixel(lookOf(OWNERS.find((owner) => owner.byte === byte) as Owner).colour));
      });
    }
  });

  it("equals a slow twin pixel by pixel, in windows that cut cells and leave the map", () => {
    const random = numbers(2);
    for (let round = 0; round < 60; round++) {
      const frames = 1 + random(300);
      const grid = gridOf(frames);
      const map = Uint8Array.from({ length: frames }, () => random(10));
      const cell = 1 + random(9);
      const window = { cell, column: random(grid.columns), row: random(grid.rows), width: 1 + random(70), height: 1 + random(70) };
      const stamps = stampsOf(OWNERS, cell, () => undefined);
      const out = new Uint32Array(window.width * window.height);
      paint(out, map, grid, window, stamps);
      for (let y = 0; y < window.height; y++) {
        for (let x = 0; x < window.width; x++) {
          const column = window.column + Math.floor(x / cell);
          const mfn = (window.row + Math.floor(y / cell)) * grid.columns + column;
          const inside = column < grid.columns && mfn < frames;
          const expected = inside ? stamps[map[mfn] as number]?.[(y % cell) * cell + (x % cell)] : pixel("#000000");
          expect(out[y * window.width + x]).toBe(expected);
        }
      }
    }
  });

  it("gives each texture its own pattern from 6 pixels on", () => {
    const seen = new Set<string>();
    const textured = LOOKS.filter((look) => look.texture !== "none" && look.texture !== "solid");
    for (const look of textured) {
      const plain = stampOf({ ...look, letter: "" }, 6, () => undefined);
      seen.add([...plain].map((each) => (each === pixel(look.colour) ? "." : "#")).join(""));
    }
    expect(seen.size).toBe(textured.length);
  });
});
