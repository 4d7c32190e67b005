import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { delta, keyframe } from "./testing";
import { crc32, isFrame, readBinary, readText, WireError } from "./wire";

/** The slow twin of crc32: bit by bit, no table. */
function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const low = (crc ^ (byte >> bit)) & 1;
      crc = (crc >>> 1) ^ (low ? 0xedb88320 : 0);
    }
  }
  return ~crc >>> 0;
}

describe("binary frames", () => {
  it("reads a keyframe as it was written", async () => {
    const map = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) % 5);
    const frame = await readBinary(keyframe({ run: 9, seq: 41, op: 2 ** 40, map, violations: [3, 999] }));
    expect(frame).toMatchObject({ type: "map", kind: "keyframe", topic: "run/9/map", seq: 41, base: 41, op: 2 ** 40 });
    if (frame.kind !== "keyframe") throw new Error("not a keyframe");
    expect(frame.map).toEqual(map);
    expect([...frame.violations]).toEqual([3, 999]);
    expect(frame.owners[3]).toEqual({ byte: 3, owner: "vm:65537", name: "a-db", letter: "A" });
  });

  it("reads a delta as it was written", async () => {
    const frame = await readBinary(delta({ run: 9, seq: 42, base: 41, changes: [[5, 3], [7, 0]], violations: [5] }));
    if (frame.kind !== "delta") throw new Error("not a delta");
    expect([[...frame.frames], [...frame.bytes], [...frame.violations]]).toEqual([[5, 7], [3, 0], [5]]);
  });

  it("refuses a flip of any single bit, the run, number, base and operation excepted", async () => {
    const whole = keyframe({ run: 1, seq: 1, map: Uint8Array.of(0, 1, 2, 3) });
    for (let bit = 0; bit < whole.byteLength * 8; bit++) {
      const at = bit >> 3;
      if (at >= 4 && at < 24) continue; // fields that the checksum does not cover
      const bytes = new Uint8Array(whole.slice(0));
      bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
      await expect(readBinary(bytes.buffer), `bit ${bit}`).rejects.toThrow(WireError);
    }
  });

  it("refuses every truncation and a tail", async () => {
    for (const whole of [keyframe({ run: 1, seq: 1, map: Uint8Array.of(0, 1) }), delta({ run: 1, seq: 2, base: 1, changes: [[1, 1]], violations: [1] })]) {
      for (let length = 0; length < whole.byteLength; length++) await expect(readBinary(whole.slice(0, length))).rejects.toThrow(WireError);
      await expect(readBinary(new Uint8Array([...new Uint8Array(whole), 0]).buffer)).rejects.toThrow(WireError);
    }
  });

  it("refuses a map of another length than announced, and a byte without an owner", async () => {
    await expect(readBinary(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0, 1), frames: 3 }))).rejects.toThrow("inflates to 2 bytes, not 3");
    await expect(readBinary(keyframe({ run: 1, seq: 1, map: new Uint8Array(1 << 20), frames: 3 }))).rejects.toThrow("more than 3 bytes");
    await expect(readBinary(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0, 200) }))).rejects.toThrow("owner byte 200");
    await expect(readBinary(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0), violations: [1] }))).rejects.toThrow("violation at frame 1");
  });

  it("sums like its slow twin", () => {
    for (let length = 0; length < 64; length++) {
      const bytes = Uint8Array.from({ length }, (_, i) => (i * 151 + length * 13) & 0xff);
      expect(crc32(bytes)).toBe(slowCrc(bytes));
    }
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
  });
});

/** Written by the server's own code (tests/golden): what it writes is what this page reads. */
describe("the golden bytes of the server", () => {
  const golden = (name: string): Buffer => readFileSync(new URL(`../../tests/golden/${name}`, import.meta.url));
  const expected = JSON.parse(golden("maps.expected.json").toString()) as Record<string, {
    kind: string; run: number; seq: number; base: number; op: number; violations: number[]; owners?: object[]; cells?: number[]; rows?: [number, number][];
  }>;

  it.each(Object.keys(expected))("%s says what the server meant", async (name) => {
    const bytes = golden(name);
    const frame = await readBinary(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer);
    const { kind, run, seq, base, op, violations, owners, cells, rows } = expected[name] as (typeof expected)[string];
    expect(frame).toMatchObject({ kind, topic: `run/${run}/map`, seq, base, op });
    expect([...frame.violations]).toEqual(violations);
    if (frame.kind === "keyframe") {
      expect([...frame.map]).toEqual(cells);
      expect(frame.owners).toEqual(expect.arrayContaining(owners as object[]));
      expect(frame.owners.filter((owner) => owner.byte !== 254)).toEqual((owners as { byte: number }[]).filter((owner) => owner.byte !== 254));
    } else expect([...frame.frames].map((mfn, i) => [mfn, frame.bytes[i]])).toEqual(rows);
  });

  it.each(["counters.json", "counters_tenant.json", "tlb_keyframe.json", "tlb_delta.json"])("%s is read without loss", (name) => {
    const raw = golden(name).toString();
    const { data, ...numbered } = JSON.parse(raw) as { data: { entries?: unknown[][]; vms?: object[] }; topic: string };
    const frame = readText(raw);
    expect(frame).toMatchObject(numbered);
    if (!isFrame(frame)) throw new Error("not a frame");
    if (frame.type === "counters") expect(frame.data).toEqual(data);
    if (frame.type !== "tlb") return;
    const filled = frame.data.entries.map((e) => [e.index, e.vpn, e.owner, e.size, e.perm, e.age, e.state, e.dim, e.mfn]);
    expect([...filled, ...frame.data.emptied.map((index) => [index])].sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual(data.entries);
  });
});

const GEOMETRY = { cores: 1, l1: { sets: 2, ways: 2 }, l2: { sets: 2, ways: 2 } };
const say = (message: unknown): string => JSON.stringify(message);

describe("text messages", () => {
  it("reads TLB rows, filled and emptied", () => {
    const message = readText(say({
      topic: "run/1/tlb", kind: "delta", seq: 3, base: 2, op: 9,
      data: { geometry: GEOMETRY, entries: [[1, "0x1a2f3", 3, 512, "rw", 4, "STALE", 1, 512], [2]] },
    }));
    expect(message).toMatchObject({ type: "tlb", data: { entries: [{ index: 1, vpn: "0x1a2f3", owner: 3, size: 512, perm: "rw", age: 4, state: "STALE", dim: 1, mfn: 512 }], emptied: [2] } });
  });

  it("reads the log, the matrix and topics it does not know", () => {
    const log = readText(say({ topic: "run/1/log", kind: "keyframe", seq: 5, base: 5, op: 9, data: { events: [{ number: 5, op: 9, at: "t", kind: "drill", vm: "a", title: "A01", outcome: "BLOCKED", check: "owner_check", detail: { mfn: 4 } }] } }));
    expect(log).toMatchObject({ type: "log", data: { events: [{ check: "owner_check", detail: { mfn: 4 } }] } });
    const matrix = readText(say({ topic: "matrix", kind: "delta", seq: 5, base: 4, op: 0, data: { cells: [{ attack: "A01", title: "x", architecture: "hsvm", state: "done", outcome: "BLOCKED", evidence: "d", check: "c", seed: 7, digest: "ab", url: "/teach/1" }] } }));
    expect(matrix).toMatchObject({ type: "matrix", data: { cells: [{ seed: "7" }] } });
    expect(readText(say({ topic: "negotiation/4", kind: "keyframe", seq: 1, base: 1, op: 0, data: {} }))).toMatchObject({ type: "other" });
  });

  it.each([
    ["not JSON", "{"],
    ["a list", "[]"],
    ["unknown type", say({ type: "surprise" })],
    ["unknown kind", say({ topic: "run/1/log", kind: "patch", seq: 1, base: 1, op: 0, data: {} })],
    ["negative seq", say({ topic: "run/1/log", kind: "keyframe", seq: -1, base: 1, op: 0, data: { events: [] } })],
    ["a fraction", say({ topic: "run/1/log", kind: "keyframe", seq: 1.5, base: 1, op: 0, data: { events: [] } })],
    ["a map as text", say({ topic: "run/1/map", kind: "keyframe", seq: 1, base: 1, op: 0, data: {} })],
    ["an entry outside the TLB", say({ topic: "run/1/tlb", kind: "keyframe", seq: 1, base: 1, op: 0, data: { geometry: GEOMETRY, entries: [[8]] } })],
    ["an unknown entry state", say({ topic: "run/1/tlb", kind: "keyframe", seq: 1, base: 1, op: 0, data: { geometry: GEOMETRY, entries: [[0, "0x1", 3, 1, "r", 0, "fine"]] } })],
  ])("refuses %s", (_, raw) => {
    expect(() => readText(raw)).toThrow(WireError);
  });

  it("knows the server's answers", () => {
    for (const message of [{ type: "current", topic: "t", seq: 3 }, { type: "replay", topic: "t", from: 1, to: 2 }, { type: "snapshot", topic: "t" },
      { type: "denied", topic: "t", reason: "no" }, { type: "gone", topic: "t", reason: "no" }, { type: "pong" }, { type: "state", topic: "t", state: "done" },
      { type: "caption", text: "x" }, { type: "mark", name: "x" }]) {
      const read = readText(say(message));
      expect(read).toEqual(message);
      expect(isFrame(read)).toBe(false);
    }
  });
});
