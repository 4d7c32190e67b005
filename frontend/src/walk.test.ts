import { describe, expect, it } from "vitest";

import { factsAt, stateOf, type Reference } from "./walk";

const reference = (order: number, skipped = false): Reference => ({
  order, says: `Reference ${order}`, bits: "47 to 39", of: "guest address", mfn: 100 + order, entry: "0x1", perm: order === 3 ? "" : "rw", skipped, fault: order === 3,
});

describe("the walk", () => {
  it("says beside the drawing what a count from scratch says, at every step", () => {
    const all = [reference(1), reference(2, true), reference(3)];
    expect(factsAt(all, 0)).toEqual({ says: null, bits: "none yet", mfn: "", entry: "", perm: "", count: "0 made, 0 saved" });
    for (let step = 1; step <= 3; step++) {
      let made = 0, saved = 0;
      for (const each of all) if (each.order <= step) { if (each.skipped) saved++; else made++; }
      expect(factsAt(all, step).count).toBe(`${made} made, ${saved} saved`);
      expect(factsAt(all, step).says).toBe(`Reference ${step}`);
    }
    expect(factsAt(all, 3).perm).toBe("nothing: not present");
  });

  it("lights up what is made, marks what is now, and leaves the rest", () => {
    expect([1, 2, 3].map((order) => stateOf(order, 2))).toEqual(["done", "now", "coming"]);
  });
});
