import { expect, it } from "vitest";
import { shiftOf, turn } from "./kiosk_turn";

it("the screen stays on its panel while the server is away and goes on when it is back", async () => {
  const waits: number[] = [], said: number[] = [], gone: string[] = [];
  const answers = ["away", "refused", "ok"];
  await turn("?at=1", 20_000, {
    fetch: () => { const next = answers.shift(); return next === "away" ? Promise.reject(new Error("offline")) : Promise.resolve({ ok: next === "ok" }); },
    wait: (ms) => { waits.push(ms); return Promise.resolve(); },
    busy: () => false, go: (url) => gone.push(url), say: (missed) => said.push(missed),
  });
  expect([waits, said, gone]).toEqual([[20_000, 2_000, 4_000], [1, 2, 0], ["?at=1"]]);
});

it("nothing is taken away while somebody types the token", async () => {
  let typing = 3;
  const asked: string[] = [];
  await turn("?at=0", 5_000, {
    fetch: (url) => { asked.push(`${url} ${typing}`); return Promise.resolve({ ok: true }); },
    wait: () => Promise.resolve(), busy: () => typing-- > 0, go: () => undefined, say: () => undefined,
  });
  expect(asked).toHaveLength(1);
});

it("the picture stands elsewhere each minute, and comes round", () => {
  expect([0, 59_999, 60_000, 9 * 60_000].map((now) => shiftOf(now, 9))).toEqual([0, 0, 1, 0]);
});
