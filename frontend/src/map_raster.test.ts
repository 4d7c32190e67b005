import { describe, expect, it } from "vitest";
import { frameAt, type Order } from "./map_geometry";
import { MapModel } from "./map_model";
import { MaxPyramid } from "./map_pyramid";
import { BACKGROUND, dimmed, paint, repaint, stampOf, stampsOf } from "./map_raster";
import { LOOKS, lookOf, pixel } from "./palette";
import type { MapState } from "./store";
import { numbers } from "./testing";
import type { Owner } from "./wire";

const OWNERS: Owner[] = [
  { byte: 0, owner: "free", name: "free", letter: "" }, { byte: 1, owner: "hypervisor", name: "hypervisor", letter: "" },
  { byte: 2, owner: "hsvm", name: "hsvm", letter: "" }, ..."ABCDEFG".split("").map((letter, i) => ({ byte: 3 + i, owner: `vm:${i}`, name: letter, letter })),
  { byte: 254, owner: "other", name: "other", letter: "" },
];
const BYTES = OWNERS.map((owner) => owner.byte);
const scribble = (stamp: Uint32Array): unknown => stamp.fill(0xff123456);

const stateOf = (map: Uint8Array): MapState => ({
  type: "map", seq: 1, op: 1, owners: OWNERS, map, violations: new Uint32Array(0), counts: new Uint32Array(256), changed: 0,
});

function modelOf(map: Uint8Array, order: Order): MapModel {
  const model = new MapModel();
  model.follow(stateOf(map));
  model.setOrder(order);
  return model;
}

/** The dumb painter: the frames of a pixel one by one; of several the owner of most, of equally many the later row. */
function slowByte(map: Uint8Array, model: MapModel, column: number, row: number, per: number): number | null {
  const votes = new Map<number, number>();
  for (let y = row; y < row + per; y++) {
    for (let x = column; x < column + per; x++) {
      const mfn = frameAt(model.grid, x, y);
      if (mfn !== null) votes.set(map[mfn] as number, (votes.get(map[mfn] as number) ?? 0) + 1);
    }
  }
  let [best, found]: [number, number | null] = [1, null];
  for (const byte of BYTES) if ((votes.get(byte) ?? 0) >= best) [best, found] = [votes.get(byte) as number, byte];
  return found;
}

describe("painting", () => {
  it("puts the owner's base colour at the top left of every cell, at every size, whatever texture or letter lies on it", () => {
    const random = numbers(9);
    for (const cell of [1, 2, 3, 4, 6, 7, 8, 12, 24, 33]) {
      const map = Uint8Array.from({ length: 256 }, () => BYTES[random(BYTES.length)] as number);
      const model = modelOf(map, "rows");
      const window = { cell, column: 0, row: 0, width: 16 * cell, height: 16 * cell };
      const out = new Uint32Array(window.width * window.height);
      paint(out, { plane: model.level(1), marks: null, faces: [stampsOf(OWNERS, cell, scribble)], background: BACKGROUND }, model.grid, window);
      map.forEach((byte, mfn) => {
        const at = Math.floor(mfn / 16) * cell * window.width + (mfn % 16) * cell;
        expect(out[at]).toBe(pixel(lookOf(OWNERS.find((owner) => owner.byte === byte) as Owner).colour));
      });
    }
  });

  it("equals the dumb painter pixel by pixel: both orders, every zoom, marks, windows that cut cells and leave the map, and after changes", () => {
    const random = numbers(2);
    for (let round = 0; round < 120; round++) {
      const frames = 1 + random(round % 3 === 0 ? 5000 : 300);
      const map = Uint8Array.from({ length: frames }, (_, i) => BYTES[random(i % 64 < 40 ? 2 : BYTES.length)] as number);
      const state = stateOf(map);
      const model = new MapModel();
      model.follow(state);
      model.setOrder(random(2) === 0 ? "rows" : "hilbert");
      const { grid } = model;
      model.level(2);
      for (let i = random(30); i > 0; i--) map[random(frames)] = BYTES[random(BYTES.length)] as number;
      model.follow(stateOf(map));
      const marks = new MaxPyramid(grid.columns, grid.rows);
      for (let i = random(20); i > 0; i--) marks.set(random(grid.columns), random(grid.rows), 1);
      const per = 2 ** random(4);
      const cell = per > 1 ? 1 / per : 1 + random(9);
      const window = { cell, column: random(Math.ceil(grid.columns / per)) * per, row: random(Math.ceil(grid.rows / per)) * per, width: 1 + random(70), height: 1 + random(70) };
      const size = Math.max(1, cell);
      const bright = stampsOf(OWNERS, size, () => undefined);
      const faces = [dimmed(bright), bright];
      const out = new Uint32Array(window.width * window.height);
      const scene = { plane: model.level(per), marks: marks.levels[Math.log2(per)] as never, faces, background: BACKGROUND };
      if (round % 2 === 0) paint(out, scene, grid, window);
      else {
        // From where the window stood before.
        const before = { ...window, column: Math.max(0, window.column + (random(21) - 10) * per), row: Math.max(0, window.row + (random(21) - 10) * per) };
        paint(out, scene, grid, before);
        repaint(out, scene, grid, window, before);
      }
      for (let y = 0; y < window.height; y++) {
        for (let x = 0; x < window.width; x++) {
          const column = window.column + Math.floor(x / cell);
          const row = window.row + Math.floor(y / cell);
          const byte = slowByte(map, model, column, row, per);
          let mark = 0;
          for (let dy = 0; dy < per; dy++) for (let dx = 0; dx < per; dx++) if (column + dx < grid.columns && row + dy < grid.rows) mark = Math.max(mark, marks.get(column + dx, row + dy));
          const expected = byte === null ? BACKGROUND : faces[mark]?.[byte]?.[per > 1 ? 0 : (y % cell) * cell + (x % cell)];
          if (out[y * window.width + x] !== expected) expect([round, x, y, out[y * window.width + x]]).toEqual([round, x, y, expected]);
        }
      }
    }
  });

  it("gives each texture its own pattern from 6 pixels on, in colour and in black on white", () => {
    for (const style of ["colour", "pattern"] as const) {
      const seen = new Set<string>();
      const textured = LOOKS.filter((look) => look.texture !== "none" && look.texture !== "solid");
      for (const look of textured) {
        const plain = stampOf({ ...look, letter: "" }, 6, () => undefined, style);
        seen.add([...plain].map((each) => (each === plain[0] ? "." : "#")).join(""));
      }
      expect(seen.size).toBe(textured.length);
    }
  });

  it("keeps the owners apart by tone where cells are too small for textures in black on white", () => {
    const tones = LOOKS.map((look) => stampOf(look, 1, () => undefined, "pattern")[0]);
    expect(new Set(tones).size).toBe(LOOKS.length);
  });
});
