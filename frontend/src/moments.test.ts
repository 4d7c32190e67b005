import { expect, it } from "vitest";
import { fromSlider, momentLink, Moments, readMoment, Refusal, toSlider } from "./moments";
import { keyframe, numbers } from "./testing";

const HEAD = { type: "moment", run: 3, at: 48112, oldest: 10, newest: 90000, unit: "op", says: "World switch: a-db enters core 0." };

function records(...payloads: (string | ArrayBuffer)[]): ArrayBuffer {
  const parts = payloads.map((each) => {
    const bytes = typeof each === "string" ? Buffer.from(each) : Buffer.from(each);
    const head = Buffer.alloc(9);
    head.writeUInt8(typeof each === "string" ? 0 : 1, 4);
    head.writeUInt32LE(bytes.length, 5);
    return Buffer.concat([head, bytes]);
  });
  const all = Buffer.concat(parts);
  return all.buffer.slice(all.byteOffset, all.byteOffset + all.length) as ArrayBuffer;
}

const body = (at = HEAD.at): ArrayBuffer => records(JSON.stringify({ ...HEAD, at }), keyframe({ run: 3, seq: 7, op: at, map: Uint8Array.of(3, 4, 0, 0) }));
const answer = (content: BodyInit | null, status = 200): Response => new Response(content, { status });

it("a moment comes whole into a store of its own", async () => {
  const moment = await readMoment(body());
  expect(moment).toMatchObject({ at: 48112, unit: "op", newest: 90000 });
  const map = moment.store.get("run/3/map");
  expect(map?.type === "map" && [...map.map]).toEqual([3, 4, 0, 0]);
  await expect(readMoment(records())).rejects.toThrow("without its head");
  await expect(readMoment(records(JSON.stringify({ ...HEAD, unit: "day" })))).rejects.toThrow("unknown unit day");
});

it("of two moments asked for in a row only the later one is shown", async () => {
  const waiting: ((answer: Response) => void)[] = [];
  const moments = new Moments("/runs/3/", (_url, init) => new Promise((resolve, reject) => {
    init?.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    waiting.push(resolve);
  }));
  const first = moments.at("op", 1);
  const second = moments.at("op", 2);
  expect(await first).toBeNull();
  waiting[1]?.(answer(body(2)));
  expect((await second)?.at).toBe(2);
});

it("a refusal is told in the server's words", async () => {
  const moments = new Moments("/runs/3/", async () => answer(JSON.stringify({ code: "bad_input", message: "op 5 is not kept" }), 422));
  await expect(moments.at("op", 5)).rejects.toThrow(new Refusal("op 5 is not kept"));
  await expect(new Moments("/runs/3/", async () => answer("oops", 500)).reach()).rejects.toThrow("the server answered 500");
});

it("slider and moment are each other's inverse as far as its positions go", () => {
  const draw = numbers(5);
  for (let i = 0; i < 200; i++) {
    const oldest = draw(1_000_000);
    const reach = { oldest, newest: oldest + 1 + draw(5_000_000) };
    const position = draw(1001);
    const at = fromSlider(reach, position, 1000);
    expect(at).toBeGreaterThanOrEqual(reach.oldest);
    expect(at).toBeLessThanOrEqual(reach.newest);
    if (reach.newest - reach.oldest > 2000) expect(toSlider(reach, at, 1000)).toBe(position);
  }
  expect(toSlider({ oldest: 4, newest: 4 }, 4, 1000)).toBe(1000);
});

it("a link names run, engine, seed, operation, view and both cursors, and nothing twice", () => {
  const link = momentLink("http://h/operator/host/h1/?op=3&b=7&tab=x#tlb", { unit: "op", at: 48112 }, { run: 3, engine: "2", seed: "7", a: 100, b: null }, "ownership-map");
  expect(link).toBe("http://h/operator/host/h1/?tab=x&op=48112&run=3&engine=2&seed=7&a=100#ownership-map");
});
