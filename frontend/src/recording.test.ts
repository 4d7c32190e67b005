import { describe, expect, it } from "vitest";
import { Player, readRecording } from "./recording";
import { Store, type MapState } from "./store";
import { delta, keyframe, numbers } from "./testing";

function file(records: [number, string | ArrayBuffer][]): ArrayBuffer {
  const parts = records.map(([at, payload]) => {
    const body = typeof payload === "string" ? Buffer.from(payload) : Buffer.from(payload);
    const head = Buffer.alloc(9);
    head.writeUInt32LE(at, 0);
    head.writeUInt8(typeof payload === "string" ? 0 : 1, 4);
    head.writeUInt32LE(body.length, 5);
    return Buffer.concat([head, body]);
  });
  const all = Buffer.concat(parts);
  return all.buffer.slice(all.byteOffset, all.byteOffset + all.length) as ArrayBuffer;
}

const say = (message: object): string => JSON.stringify(message);

/** Two runs one after the other, keyframes in between, captions, a mark and a place to wait. */
function story(): { bytes: ArrayBuffer; states: { map: number[]; caption: string; topic: string }[] } {
  const random = numbers(4);
  const records: [number, string | ArrayBuffer][] = [];
  const states: { map: number[]; caption: string; topic: string }[] = [];
  let caption = "";
  for (const run of [1, 2]) {
    let map = Array.from({ length: 40 }, () => random(5));
    for (let seq = 1; seq <= 30; seq++) {
      const at = run * 10_000 + seq * 100;
      if (seq === 1 || seq === 17) {
        map = Array.from({ length: 40 }, () => random(5));
        records.push([at, keyframe({ run, seq, map: Uint8Array.from(map) })]);
      } else {
        const changes = Array.from({ length: 4 }, (): [number, number] => [random(40), random(5)]);
        for (const [mfn, byte] of changes) map[mfn] = byte;
        records.push([at, delta({ run, seq, base: seq - 1, changes })]);
      }
      if (seq % 10 === 0) records.push([at, say({ type: "caption", text: (caption = `run ${run} at ${seq}`) })]);
      if (run === 2 && seq === 1) records.push([at, say({ type: "mark", name: "Second host" })]);
      if (run === 2 && seq === 20) records.push([at, say({ type: "mark", name: "wait" })]);
      states.push({ map: [...map], caption, topic: `run/${run}/map` });
    }
  }
  return { bytes: file(records), states };
}

async function open() {
  const { bytes, states } = story();
  const store = new Store();
  const player = new Player(await readRecording(bytes), store, () => undefined);
  const shown = (): object => {
    const topic = player.topic("map") ?? "";
    return { map: [...(store.get(topic) as MapState).map], caption: player.caption, topic };
  };
  return { player, states, shown };
}

describe("a recording", () => {
  it("shows forwards and backwards exactly the states that were recorded", async () => {
    const { player, states, shown } = await open();
    for (const state of states) {
      player.stepForward();
      expect(shown()).toEqual(state);
    }
    expect(player.ended).toBe(true);
    for (const state of states.slice(0, -1).reverse()) {
      player.stepBack();
      expect(shown()).toEqual(state);
    }
  });

  it("shows the same after any jump as after playing up to there", async () => {
    const { player, states, shown } = await open();
    const random = numbers(8);
    for (let i = 0; i < 100; i++) {
      const step = random(states.length);
      player.seekTime((step < 30 ? 10_000 : 20_000) + (1 + (step % 30)) * 100 + random(99));
      expect(shown()).toEqual(states[step]);
    }
  });

  it("plays by the clock, waits where it is told, and skips to the next chapter", async () => {
    const { player, states, shown } = await open();
    player.play();
    player.tick(10_350);
    expect(shown()).toEqual(states[2]);
    player.skipToMark();
    expect(shown()).toEqual(states[30]);
    player.tick(60_000);
    expect([player.playing, player.waiting]).toEqual([false, true]);
    expect(shown()).toEqual(states[49]);
    player.tick(1000);
    expect(shown()).toEqual(states[49]);
    player.play();
    player.tick(60_000);
    expect(player.ended).toBe(true);
    expect(shown()).toEqual(states.at(-1));
  });

  it("refuses a file that ends inside a record", async () => {
    const { bytes } = story();
    await expect(readRecording(bytes.slice(0, bytes.byteLength - 1))).rejects.toThrow("ends inside a record");
    await expect(readRecording(bytes.slice(0, 5))).rejects.toThrow("ends inside a record");
  });
});
