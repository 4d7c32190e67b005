import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Details, pageName, read } from "./map_details";

const ANSWER = {
  mfn: 7, owner: "vm:65537", since_op: 12, maps: [{ vm: "a-db", gpn: 18, perm: "rw" }], protected: true, cleared: false,
  tlb: [{ core: 0, level: 1, set: 2, way: 3, state: "STALE" }], operations: [{ op: 12, what: "map" }],
};
let asked: string[] = [];
let answer: () => Promise<unknown> = () => Promise.resolve({ ok: true, json: () => Promise.resolve(ANSWER) });

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  vi.stubGlobal("fetch", (url: string) => {
    asked.push(url);
    return answer();
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const rootOf = (dataset: Record<string, string>): HTMLElement => ({ dataset }) as unknown as HTMLElement;

it("asks once the cursor rests, for the moment of a recording, and knows the guest page afterwards", async () => {
  const changed = vi.fn();
  const details = new Details(rootOf({ facts: "/run/1/frame/", state: "recording", op: "40" }), changed);
  for (const mfn of [3, 4, 7]) details.look(mfn);
  await vi.advanceTimersByTimeAsync(149);
  expect(asked).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked).toEqual(["/run/1/frame/7/?op=40"]);
  expect(details.now).toMatchObject({ mfn: 7, protected: true });
  expect(details.guestPage(7)).toBe("0x12");
  expect(changed).toHaveBeenCalledTimes(1);
  details.look(7);
  await vi.advanceTimersByTimeAsync(500);
  expect(asked).toHaveLength(1);
});

it("asks of the present once a visit, of another moment anew, and says when there is no answer", async () => {
  const root = rootOf({ facts: "/f/", state: "live", op: "1" });
  const details = new Details(root, () => undefined);
  details.look(7);
  await vi.advanceTimersByTimeAsync(200);
  root.dataset["op"] = "2"; // the run goes on
  details.look(7);
  await vi.advanceTimersByTimeAsync(200);
  expect(asked).toEqual(["/f/7/"]);
  expect(details.now).toMatchObject({ mfn: 7 });
  root.dataset["state"] = "recording";
  answer = () => Promise.resolve({ ok: false, status: 404 });
  details.look(7);
  expect(details.now).toMatchObject({ mfn: 7 });
  await vi.advanceTimersByTimeAsync(200);
  expect(asked).toEqual(["/f/7/", "/f/7/?op=2"]);
  expect(details.now).toBe("none");
});

it("asks nobody where nothing is offered, and takes nothing that is no answer", async () => {
  const details = new Details(rootOf({}), () => undefined);
  details.look(7);
  await vi.advanceTimersByTimeAsync(500);
  expect([asked, details.offered]).toEqual([[], false]);
  for (const wrong of [null, 3, {}, { mfn: "7" }, { ...ANSWER, tlb: null }]) expect(() => read(wrong)).toThrow();
  expect([pageName(255), pageName("0x9")]).toEqual(["0xff", "0x9"]);
});
