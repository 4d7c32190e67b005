import { describe, expect, it } from "vitest";

import { factsOf, moved } from "./attack_matrix";
import { both, numbersOf, sheetOf, stepAt, tiles, type Film } from "./replay";
import { numbers } from "./testing";

const film = (name: string, shown: number[], refused = 0): Film => ({
  name, attack: "A03", title: "map", seed: 0, engine: "2", digest: "ab", total: 9, deciding: 0, rows: [],
  steps: shown.map((n) => ({ n, at: n, says: `Step ${n}`, op: "page_map", status: n === refused ? "E_OWNER" : "OK", check: n === refused ? "owner_check" : "", frames: [], tlb: [], cpus: [] })),
});

describe("the replay", () => {
  it("shows of a step that is left out the last one before it, as a dumb search finds it", () => {
    const next = numbers(7);
    for (let round = 0; round < 200; round++) {
      const shown = [0, ...new Set(Array.from({ length: 1 + next(20) }, () => 1 + next(60)))].sort((a, b) => a - b);
      const at = next(70);
      let dumb = 0;
      for (const n of shown) if (n <= at) dumb = n;
      expect(stepAt(film("hsvm", shown), at)?.n).toBe(dumb);
    }
  });

  it("steps through whatever one of two films shows", () => {
    expect(numbersOf([film("a", [0, 1, 2, 8]), film("b", [0, 1, 5])])).toEqual([0, 1, 2, 5, 8]);
  });

  it("says both answers of a step", () => {
    const films = [film("hsvm", [0, 7], 7), film("nested", [0, 7])];
    expect(both(films, 7)).toBe("Step 7, page_map: hsvm answered E_OWNER by owner_check, nested answered OK.");
    expect(both(films, 0)).toBe("Nothing is done yet on either machine.");
    expect(sheetOf(films)).toEqual({ heads: ["Step", "Operation", "hsvm answered", "nested answered"], rows: [["7", "page_map", "E_OWNER by owner_check", "OK"]] });
  });

  it("draws a tile for each frame and takes no mark-up from its words", () => {
    const drawn = tiles([{ cells: ["<0x1>"], mark: "changed", look: "a" }, { cells: ["0x2"], mark: "", look: "free" }]);
    expect(drawn.svg).toContain("▲ &lt;0x1&gt;");
    expect(drawn.svg.match(/<g /g)?.length).toBe(2);
    expect(drawn.width).toBe(8 + 2 * 92);
  });
});

describe("the grid of the table", () => {
  it("says all that a cell holds, and of a stale one both words", () => {
    const cell = { attack: "A03", title: "map", architecture: "hsvm", state: "done" as const, outcome: "BLOCKED", evidence: "o", check: "owner_check", seed: "0", digest: "0123456789abcdef01", url: "/teach/cell/1/",
      word: "BLOCKED", oldWord: "", engine: "2", durationMs: "8.1", ops: "8" };
    expect(factsOf(cell)).toBe("A03 on hsvm: BLOCKED by owner_check; seed 0, engine 2, 8.1 ms, operations 1 to 8, digest 0123456789abcdef, expectation our own rule.");
    expect(factsOf({ ...cell, word: "STALE RESULT", oldWord: "BLOCKED" })).toContain("STALE RESULT (was BLOCKED)");
    expect(factsOf({ ...cell, architecture: "hsvm without owner_check", evidence: "" })).toContain("expectation none: a what-if");
    expect(factsOf({ ...cell, state: "running" })).toBe("A03 on hsvm: running.");
  });

  it("is walked by arrow keys and never left by them", () => {
    expect(moved("ArrowUp", 0, 2, 25, 6, false)).toEqual([0, 2]);
    expect(moved("ArrowRight", 3, 5, 25, 6, false)).toEqual([3, 5]);
    expect(moved("ArrowDown", 3, 5, 25, 6, false)).toEqual([4, 5]);
    expect(moved("End", 3, 0, 25, 6, true)).toEqual([24, 5]);
    expect(moved("Home", 3, 4, 25, 6, false)).toEqual([3, 0]);
    expect(moved("a", 3, 4, 25, 6, false)).toBeNull();
  });
});
