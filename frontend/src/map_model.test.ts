import { expect, it } from "vitest";
import { frameAt } from "./map_geometry";
import { MapModel } from "./map_model";
import { NOTHING } from "./map_pyramid";
import { Store, type MapState } from "./store";
import { delta, keyframe, numbers } from "./testing";
import { readBinary } from "./wire";

function check(model: MapModel, map: ArrayLike<number>, wrong: number[]): void {
  expect(model.map.join()).toBe(Array.from(map).join());
  const { grid, cells } = model;
  for (let row = 0; row < cells.height; row++) {
    for (let column = 0; column < cells.width; column++) {
      const mfn = frameAt(grid, column, row);
      const found = cells.bytes[row * cells.width + column];
      if (found !== (mfn === null ? NOTHING : map[mfn])) expect([column, row, found]).toEqual([column, row, mfn === null ? NOTHING : map[mfn]]);
    }
  }
  expect([...model.violations]).toEqual([...new Set(wrong)].sort((a, b) => a - b));
  expect(Array.from(map, (_, mfn) => mfn).filter((mfn) => model.isWrong(mfn))).toEqual([...model.violations]);
}

it("follows deltas, several at once, keyframes and moments of the past in both orders, and tells of every change", async () => {
  const random = numbers(31);
  for (let round = 0; round < 8; round++) {
    const frames = 20 + random(300);
    const start = Uint8Array.from({ length: frames }, () => random(5));
    const store = new Store();
    store.apply(await readBinary(keyframe({ run: 1, seq: 1, map: start })));
    const model = new MapModel();
    model.follow(store.get("run/1/map") as MapState);
    const past: MapState = { ...(store.get("run/1/map") as MapState), map: start.slice(), violations: Uint32Array.of(3) };
    let wrong: number[] = [];
    for (let seq = 1; seq < 40; ) {
      const twin = model.map.slice();
      const wrongly: number[] = [];
      for (let i = random(3); i >= 0; i--, seq++) {
        wrong = Array.from({ length: random(6) }, () => random(frames));
        const changes = Array.from({ length: random(9) }, (): [number, number] => [random(frames), random(5)]);
        if (random(9) === 0) store.apply(await readBinary(keyframe({ run: 1, seq: seq + 1, map: start.map(() => random(5)), violations: wrong })));
        else store.apply(await readBinary(delta({ run: 1, seq: seq + 1, base: seq, changes, violations: wrong })));
      }
      if (random(4) === 0) model.setOrder(random(2) === 0 ? "rows" : "hilbert");
      const state = store.get("run/1/map") as MapState;
      model.follow(state, (mfn, before, after) => {
        if (twin[mfn] !== before) wrongly.push(mfn);
        twin[mfn] = after;
      });
      expect(wrongly).toEqual([]);
      expect(twin.join()).toBe(state.map.join());
      check(model, state.map, wrong);
      if (random(5) === 0) {
        model.follow(past);
        check(model, start, [3]);
      }
    }
  }
});

it("counts a frame as changed when a keyframe gives its byte to another owner", () => {
  const owner = (byte: number, name: string): { byte: number; owner: string; name: string; letter: string } => ({ byte, owner: name, name, letter: "" });
  const state = (owners: ReturnType<typeof owner>[], bytes: number[]): MapState => ({
    type: "map", seq: 1, op: 1, owners, map: Uint8Array.from(bytes), violations: new Uint32Array(0), counts: new Uint32Array(256), changed: 0,
  });
  const model = new MapModel();
  model.follow(state([owner(0, "free"), owner(3, "vm:1"), owner(4, "vm:2")], [0, 3, 4, 3]));
  const changed: number[] = [];
  model.follow(state([owner(0, "free"), owner(3, "vm:9"), owner(4, "vm:2")], [0, 3, 4, 0]), (mfn) => changed.push(mfn));
  expect(changed).toEqual([1, 3]);
});
