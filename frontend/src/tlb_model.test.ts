import { expect, it } from "vitest";
import { slotOf } from "./tlb_model";

it("every index of the wire lies in one place, counted like a slow twin", () => {
  const geometry = { cores: 2, l1: { sets: 16, ways: 4 }, l2: { sets: 128, ways: 12 } };
  let index = 0;
  for (let core = 0; core < 2; core++) {
    for (const level of [1, 2] as const) {
      const shape = level === 1 ? geometry.l1 : geometry.l2;
      for (let set = 0; set < shape.sets; set++) for (let way = 0; way < shape.ways; way++) expect(slotOf(geometry, index++)).toEqual({ core, level, set, way });
    }
  }
});
