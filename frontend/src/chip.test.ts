import { expect, it } from "vitest";
import { chipWords } from "./chip";

it("the chip has exactly five states, each in words", () => {
  const at = { ageSeconds: 12, moment: "0:42" };
  expect((["live", "reconnecting", "paused", "recording", "offline"] as const).map((state) => chipWords({ state, ...at }))).toEqual([
    "Live", "Reconnecting (data 12 s old)", "Paused by you", "Recording (viewing 0:42, not now)", "Offline - showing saved data",
  ]);
});
