import { expect, it } from "vitest";
import { ageWords, readCells, readsAs, ServerClock } from "./wall_model";

it("a cell that was not heard of for three intervals reads unknown, whatever it was; one of a host without a run does not", () => {
  for (const state of ["ok", "degraded", "violation", "none"]) {
    expect(readsAs(state, 1000, 16_000, 15_000)).toBe(state);
    expect(readsAs(state, 1000, 16_001, 15_000)).toBe("unknown");
  }
  expect(readsAs("idle", 1000, 999_999, 15_000)).toBe("idle");
});

it("ages are said in the unit that fits", () => {
  expect([-3, 0, 4.9, 119, 120, 7199, 7200].map(ageWords)).toEqual(["0 s", "0 s", "4 s", "119 s", "2 min", "119 min", "2 h"]);
});

it("the page's own clock may be wrong: ages follow the server's", () => {
  const clock = new ServerClock(1_000_000, 50);
  expect(clock.at(1050)).toBe(1_001_000);
  clock.told(1_002_000, 2150);  // came late: tells nothing new
  expect(clock.at(2150)).toBe(1_002_100);
  clock.told(1_003_080, 3050);  // the page itself had come 80 ms late
  expect(clock.at(3050)).toBe(1_003_080);
});

it("a message that does not fit is refused", () => {
  expect(readCells({ now: 5, cells: [[1, "tlb", "ok", 4, "", 3]] }).cells[0]).toEqual({ host: 1, check: "tlb", state: "ok", at: 4, why: "", since: 3 });
  for (const wrong of [null, {}, { now: 5, cells: [[1, "tlb", "healthy", 4, "", 3]] }, { now: 5, cells: [[1]] }, { now: "5", cells: [] }]) expect(() => readCells(wrong)).toThrow();
});
