import { expect, it } from "vitest";
import { chartDrawing, History, hitRatio, ratioWords } from "./counters";
import { numbers } from "./testing";
import type { VmCounts } from "./wire";

const vm = (references: number, hits: number): VmCounts => ({ name: "a", letter: "A", byte: 3, frames: 1, references, l1: hits, l2: 0, miss: references - hits, faults: 0 });

it("the hit ratio is that of the references between two readings", () => {
  expect(hitRatio(undefined, vm(100, 80))).toBe(0.8);
  expect(hitRatio(vm(100, 80), vm(200, 90))).toBe(0.1);
  expect(hitRatio(vm(100, 80), vm(100, 80))).toBe(null);
});

it("the history stays bounded, in order, and keeps the newest", () => {
  const history = new History();
  for (let op = 1; op <= 5000; op++) history.add(op, [vm(op * 10, op * 9)]);
  const ops = history.samples.map((sample) => sample.op);
  expect(ops.length).toBeLessThanOrEqual(600);
  expect(ops).toEqual([...ops].sort((a, b) => a - b));
  expect(ops.at(-1)).toBe(5000);
  expect(history.rows([3])[1]?.at(-1)).toBe(0.9);
});

it("a state of the past leaves the known future, and every order of arrival gives the same chart", () => {
  const readings = Array.from({ length: 40 }, (_, i) => [100 * i, [vm(1000 * i, 600 * i + (i % 7))]] as const);
  const [inOrder, mixed] = [new History(), new History()];
  for (const [op, vms] of readings) inOrder.add(op, vms);
  const draw = numbers(3);
  for (const [op, vms] of [...readings].sort(() => draw(3) - 1).concat(readings.slice(5, 9))) mixed.add(op, vms);
  expect(mixed.rows([3])).toEqual(inOrder.rows([3]));
  expect(mixed.samples.at(-1)?.op).toBe(3900);
  expect([mixed.after(250), mixed.after(-1), mixed.after(9999)]).toEqual([3, 0, 40]);
});

it("the chart that is taken away breaks its line where nothing is known, and names its lines", () => {
  const { svg } = chartDrawing([{ label: "a<b", colour: "#E69F00", dash: [2, 3] }], [[0, 10, 20, 30], [0.5, null, 1, 0]], 20);
  expect(svg).toContain("a&lt;b");
  expect(svg).toMatch(/d="M56.0 122.0M541.3 12.0L784.0 232.0"/);
});

it("a ratio with misses in it is never shown as a full hundred", () => {
  expect(ratioWords(vm(1_000_000, 999_999))).toBe("99.99 %");
  expect(ratioWords(vm(10, 10))).toBe("100.00 %");
  expect(ratioWords(vm(0, 0))).toBe("-");
});
