import { expect, it } from "vitest";
import { pointAt, stepAt, unroll } from "./map_hilbert";
import { numbers } from "./testing";

/** The slow twin: the curve as the textbooks give it, one bit at a time, both ways. */
function textbookStep(side: number, x: number, y: number): number {
  let d = 0;
  for (let s = side >> 1; s > 0; s >>= 1) {
    const [rx, ry] = [(x & s) > 0 ? 1 : 0, (y & s) > 0 ? 1 : 0];
    d += s * s * ((3 * rx) ^ ry);
    [x, y] = rotated(side, x, y, rx, ry);
  }
  return d;
}

function textbookPoint(side: number, d: number): [number, number] {
  let [x, y, t] = [0, 0, d];
  for (let s = 1; s < side; s *= 2) {
    const rx = 1 & Math.floor(t / 2);
    const ry = 1 & (t ^ rx);
    [x, y] = rotated(s, x, y, rx, ry);
    x += s * rx;
    y += s * ry;
    t = Math.floor(t / 4);
  }
  return [x, y];
}

function rotated(side: number, x: number, y: number, rx: number, ry: number): [number, number] {
  if (ry === 1) return [x, y];
  return rx === 1 ? [side - 1 - y, side - 1 - x] : [y, x];
}

it("visits every cell of a square once, each next to the one before, and both ways agree", () => {
  for (const side of [1, 2, 4, 8, 32, 64]) {
    const seen = new Set<number>();
    let before = pointAt(side, 0);
    for (let d = 0; d < side * side; d++) {
      const at = pointAt(side, d);
      expect(stepAt(side, at.x, at.y)).toBe(d);
      if (d > 0) expect(Math.abs(at.x - before.x) + Math.abs(at.y - before.y)).toBe(1);
      seen.add(at.y * side + at.x);
      before = at;
    }
    expect(seen.size).toBe(side * side);
    expect(before).toEqual({ x: side - 1, y: 0 });
  }
});

it("is the textbooks' curve in squares up to 4096, both ways", () => {
  const random = numbers(3);
  for (const side of [2, 4, 8, 16, 128, 4096]) {
    for (let i = 0; i < 300; i++) {
      const d = random(side * side);
      const at = pointAt(side, d);
      const [x, y] = textbookPoint(side, d);
      expect(textbookStep(side, x, y)).toBe(d);
      expect([at.x, at.y]).toEqual([x, y]);
      expect(stepAt(side, x, y)).toBe(d);
    }
  }
});

it("lays a map along the curve as one frame at a time does", () => {
  const random = numbers(8);
  for (const side of [1, 2, 4, 8, 16, 64]) {
    const frames = 1 + random(side * side);
    const map = Uint8Array.from({ length: frames }, () => 1 + random(200));
    const stride = side + 5;
    const cells = new Uint8Array(stride * side);
    unroll(cells, stride, map, 0, 3, side);
    const slow = new Uint8Array(stride * side);
    map.forEach((byte, d) => {
      const { x, y } = pointAt(side, d);
      slow[y * stride + x + 3] = byte;
    });
    expect(cells).toEqual(slow);
  }
});
