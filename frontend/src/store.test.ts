import { describe, expect, it } from "vitest";
import { Store, type MapState } from "./store";
import { delta, keyframe, numbers } from "./testing";
import { readBinary, readText, isFrame, type Frame } from "./wire";

async function text(message: object): Promise<Frame> {
  const read = readText(JSON.stringify(message));
  if (!isFrame(read)) throw new Error("not a frame");
  return read;
}

describe("the store", () => {
  it("keeps map and exact counts equal to a slow twin under random deltas, doubles and gaps", async () => {
    const random = numbers(11);
    const twin = Array.from({ length: 500 }, () => random(5));
    const store = new Store();
    store.apply(await readBinary(keyframe({ run: 1, seq: 10, map: Uint8Array.from(twin) })));
    let seq = 10;
    let last: Frame | null = null;
    for (let step = 0; step < 400; step++) {
      const changes = Array.from({ length: random(9) }, (): [number, number] => [random(500), random(5)]);
      const wrong = [random(500)];
      const kind = random(10);
      if (kind === 0 && last !== null) expect(store.apply(last)).toBe("ignored");
      else if (kind === 1) expect(store.apply(await readBinary(delta({ run: 1, seq: seq + 5, base: seq + 4, changes })))).toBe("gap");
      else if (kind === 2) expect(store.apply(await readBinary(delta({ run: 1, seq: seq + 1, base: seq, changes: [[500, 1]] })))).toBe("gap");
      else {
        last = await readBinary(delta({ run: 1, seq: seq + 1, base: seq, changes, violations: wrong }));
        seq += 1;
        for (const [mfn, byte] of changes) twin[mfn] = byte;
        expect(store.apply(last)).toBe("applied");
      }
      const state = store.get("run/1/map") as MapState;
      expect([...state.map]).toEqual(twin);
      expect([...state.counts.subarray(0, 5)]).toEqual([0, 1, 2, 3, 4].map((byte) => twin.filter((each) => each === byte).length));
      expect(state.seq).toBe(seq);
    }
  });

  it("ignores an older keyframe and takes a newer one over any gap", async () => {
    const store = new Store();
    expect(store.apply(await readBinary(keyframe({ run: 1, seq: 5, map: Uint8Array.of(1) })))).toBe("applied");
    expect(store.apply(await readBinary(keyframe({ run: 1, seq: 4, map: Uint8Array.of(0) })))).toBe("ignored");
    expect(store.apply(await readBinary(keyframe({ run: 1, seq: 90, map: Uint8Array.of(2) })))).toBe("applied");
    expect((store.get("run/1/map") as MapState).map[0]).toBe(2);
  });

  it("does not write into the keyframe it was given, so that a recording can show it again", async () => {
    const store = new Store();
    const first = await readBinary(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0, 0) }));
    store.apply(first);
    store.apply(await readBinary(delta({ run: 1, seq: 2, base: 1, changes: [[0, 3]] })));
    expect(first.kind === "keyframe" && [...first.map]).toEqual([0, 0]);
  });

  it("fills and empties TLB entries and says which were touched", async () => {
    const store = new Store();
    const geometry = { cores: 1, l1: { sets: 1, ways: 2 }, l2: { sets: 1, ways: 2 } };
    const message = { topic: "run/1/tlb", op: 0, data: { geometry, entries: [[0, "0x1", 3, 1, "r", 0, "ok", 2, 20], [3, "0x2", 4, 1, "r", 0, "ok", 2, 20]] as unknown[] } };
    store.apply(await text({ ...message, kind: "keyframe", seq: 1, base: 1 }));
    const state = store.get("run/1/tlb");
    if (state?.type !== "tlb") throw new Error("no TLB");
    state.touched = new Set();
    message.data.entries = [[0], [1, "0x9", 3, 512, "rw", 2, "STALE", 1, 512]];
    expect(store.apply(await text({ ...message, kind: "delta", seq: 2, base: 1 }))).toBe("applied");
    expect(state.entries.map((entry) => entry?.vpn ?? null)).toEqual([null, "0x9", null, "0x2"]);
    expect(state.touched).toEqual(new Set([0, 1]));
  });

  it("keeps each event of the log once, in order", async () => {
    const store = new Store();
    const event = (number: number): object => ({ number, op: number, at: "", kind: "k", vm: "", title: "t", outcome: "", check: "", detail: {} });
    store.apply(await text({ topic: "run/1/log", kind: "keyframe", seq: 2, base: 2, op: 0, data: { events: [event(1), event(2)] } }));
    expect(store.apply(await text({ topic: "run/1/log", kind: "delta", seq: 4, base: 2, op: 0, data: { events: [event(2), event(3), event(4)] } }))).toBe("applied");
    expect(store.apply(await text({ topic: "run/1/log", kind: "delta", seq: 4, base: 2, op: 0, data: { events: [event(4)] } }))).toBe("ignored");
    const state = store.get("run/1/log");
    expect(state?.type === "log" && state.events.map((each) => each.number)).toEqual([1, 2, 3, 4]);
  });
});
