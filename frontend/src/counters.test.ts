import { expect, it } from "vitest";
import { History, hitRatio, ratioWords } from "./counters";
import type { VmCounts } from "./wire";

const vm = (references: number, hits: number): VmCounts => ({ name: "a", letter: "A", byte: 3, frames: 1, references, l1: hits, l2: 0, miss: references - hits, faults: 0 });

it("the hit ratio is that of the references between two readings", () => {
  expect(hitRatio(undefined, vm(100, 80))).toBe(0.8);
  expect(hitRatio(vm(100, 80), vm(200, 90))).toBe(0.1);
  expect(hitRatio(vm(100, 80), vm(100, 80))).toBe(null);
});

it("the history stays bounded, in order, keeps the newest, and forgets what lies ahead of a rewind", () => {
  const history = new History();
  for (let op = 1; op <= 5000; op++) history.add(op, [vm(op * 10, op * 9)]);
  const ops = history.samples.map((sample) => sample.op);
  expect(ops.length).toBeLessThanOrEqual(600);
  expect(ops).toEqual([...ops].sort((a, b) => a - b));
  expect(ops.at(-1)).toBe(5000);
  history.add(2000, [vm(20_000, 18_000)]);
  expect(history.samples.at(-1)?.op).toBe(2000);
  expect(history.rows([3])[1]?.at(-1)).toBe(0.9);
});

it("a ratio with misses in it is never shown as a full hundred", () => {
  expect(ratioWords(vm(1_000_000, 999_999))).toBe("99.99 %");
  expect(ratioWords(vm(10, 10))).toBe("100.00 %");
  expect(ratioWords(vm(0, 0))).toBe("-");
});
