import { expect, it } from "vitest";
import { extentAt, extentsOf, extentStep, histogram, lengthOf } from "./map_extents";
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

it("extents equal those of the slow twin, steps visit exactly their starts, and lengths are counted in powers of two", () => {
  const random = numbers(7);
  for (let round = 0; round < 300; round++) {
    // Long runs and windows into a larger buffer, because four frames are looked at at a time.
    const whole = new Uint8Array(200);
    const map = whole.subarray(random(5), 60 + random(140));
    for (let at = 0; at < map.length; ) {
      const end = at + 1 + random(round % 2 === 0 ? 3 : 40);
      map.fill(random(3), at, end);
      at = end;
    }
    const slow = slowExtents(map);
    const all = extentsOf(map);
    expect([...all.starts].map((start, i) => ({ start, length: lengthOf(all, i), byte: all.bytes[i] }))).toEqual(slow);
    const forward = [0];
    for (let at = 0; extentStep(map, at, 1) !== at; ) forward.push((at = extentStep(map, at, 1)));
    expect(forward).toEqual(slow.map((each) => each.start));
    const back = [slow.at(-1)?.start ?? 0];
    for (let at = back[0] as number; extentStep(map, at, -1) !== at; ) back.push((at = extentStep(map, at, -1)));
    expect(back.reverse()).toEqual(forward);
    const mfn = random(map.length);
    const its = slow.findLast((each) => each.start <= mfn);
    expect(extentAt(map, mfn)).toEqual({ start: its?.start, length: its?.length });
    const rows = histogram(all);
    for (const row of rows) {
      const those = slow.filter((each) => each.length >= row.from && each.length <= row.to);
      expect([row.extents, row.frames]).toEqual([those.length, those.reduce((sum, each) => sum + each.length, 0)]);
    }
    expect(rows.reduce((sum, row) => sum + row.frames, 0)).toBe(map.length);
  }
});
