/** The only place that knows byte offsets and message shapes. Whatever does not fit throws a WireError naming the fault. */

import { say } from "./words";

export class WireError extends Error {}

export interface Owner { byte: number; owner: string; name: string; letter: string }
export interface Geometry { cores: number; l1: { sets: number; ways: number }; l2: { sets: number; ways: number } }
/** `dim` 1: `vpn` is a guest page, 2: a virtual page of the guest's own tables. `mfn` is the first frame that it reaches. */
export interface TlbEntry {
  index: number; vpn: string; owner: number; size: number; perm: string; age: number; state: TlbState; dim: number; mfn: number;
}
export type TlbState = "ok" | "STALE" | "PENDING";
export interface TlbData { geometry: Geometry; entries: TlbEntry[]; emptied: number[] }
export interface Counts { references: number; l1: number; l2: number; miss: number; faults: number }
export interface VmCounts extends Counts { name: string; letter: string; byte: number; frames: number }
export interface CountersData extends Counts { op: number; vms: VmCounts[]; owners: Record<string, number> }
export interface LogEvent {
  number: number; op: number | null; at: string; kind: string; vm: string; title: string; outcome: string; check: string;
  detail: Record<string, unknown>;
}
export interface MatrixCell {
  attack: string; title: string; architecture: string; state: "queued" | "running" | "done"; outcome: string; evidence: string;
  check: string; seed: string; digest: string; url: string;
  /** The word that the page shows, and of a stale result the word that no longer counts. */
  word: string; oldWord: string; engine: string; durationMs: string; ops: string;
}

interface Numbered { topic: string; seq: number; base: number; op: number }
export interface MapKeyframe extends Numbered { type: "map"; kind: "keyframe"; owners: Owner[]; map: Uint8Array; counts: Uint32Array; violations: Uint32Array }
export interface MapDelta extends Numbered { type: "map"; kind: "delta"; frames: Uint32Array; bytes: Uint8Array; violations: Uint32Array }
interface Json<T extends string, D> extends Numbered { type: T; kind: "keyframe" | "delta"; data: D }
export type TlbFrame = Json<"tlb", TlbData>;
export type CountersFrame = Json<"counters", CountersData>;
export type LogFrame = Json<"log", { events: LogEvent[] }>;
export type MatrixFrame = Json<"matrix", { cells: MatrixCell[] }>;
/** A topic that is none of the five views: pages only need to know that it moved. */
export type OtherFrame = Json<"other", unknown>;
export type Frame = MapKeyframe | MapDelta | TlbFrame | CountersFrame | LogFrame | MatrixFrame | OtherFrame;

export type Control =
  | { type: "current"; topic: string; seq: number }
  | { type: "replay"; topic: string; from: number; to: number }
  | { type: "snapshot"; topic: string }
  | { type: "denied" | "gone"; topic: string; reason: string }
  | { type: "state"; topic: string; state: string }
  | { type: "pong" }
  | { type: "caption"; text: string }
  | ({ type: "moment" } & MomentHead)
  | { type: "mark"; name: string };
export type Message = Frame | Control;
/** A moment of a run: where it is, how far the run can be looked at, and what was being done. `unit`: what `at` counts. */
export interface MomentHead { run: number; at: number; oldest: number; newest: number; unit: "op" | "step"; says: string }

export const isFrame = (message: Message): message is Frame => "seq" in message && "base" in message;

export type Request =
  | { type: "subscribe"; topic: string; last: number | null }
  | { type: "unsubscribe"; topic: string }
  | { type: "rate"; hz: 1 | 20 }
  | { type: "ping" };

const MAGIC = 0x5648;
const VERSION = 1;
const HEADER = 32;
const KEYFRAME = 1;
const DELTA = 2;
const MAX_FRAMES = 1 << 24;
const OTHER = 254;

// ---- binary: maps -------------------------------------------------------------------------------------------------

export async function readBinary(buffer: ArrayBuffer): Promise<MapKeyframe | MapDelta> {
  if (buffer.byteLength < HEADER) throw new WireError(`a frame of ${buffer.byteLength} bytes has no header`);
  const view = new DataView(buffer);
  if (view.getUint16(0, true) !== MAGIC) throw new WireError("not a frame of this site");
  if (view.getUint8(2) !== VERSION) throw new WireError(`frame version ${view.getUint8(2)}, this page reads version ${VERSION}`);
  const kind = view.getUint8(3);
  const run = view.getUint32(4, true);
  const seq = view.getUint32(8, true);
  const base = view.getUint32(12, true);
  const op = Number(view.getBigUint64(16, true));
  const length = view.getUint32(24, true);
  if (length !== buffer.byteLength - HEADER) throw new WireError(`body of ${buffer.byteLength - HEADER} bytes, header says ${length}`);
  const body = new Uint8Array(buffer, HEADER);
  if (crc32(body) !== view.getUint32(28, true)) throw new WireError("checksum does not fit the body");
  const numbered = { type: "map" as const, topic: `run/${run}/map`, seq, base, op };
  const reader = new Reader(body);
  if (kind === DELTA) return { ...numbered, kind: "delta", ...readDelta(reader) };
  if (kind !== KEYFRAME) throw new WireError(`unknown frame kind ${kind}`);
  if (base !== seq) throw new WireError("a keyframe's base is its own number");
  return { ...numbered, kind: "keyframe", ...(await readKeyframe(reader)) };
}

function readDelta(reader: Reader): Pick<MapDelta, "frames" | "bytes" | "violations"> {
  const count = reader.u32();
  reader.expect(count * 5);
  const frames = new Uint32Array(count);
  const bytes = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    frames[i] = reader.u32();
    bytes[i] = reader.u8();
  }
  const violations = readViolations(reader);
  if (reader.left !== 0) throw new WireError(`${reader.left} bytes too many in a delta`);
  return { frames, bytes, violations };
}

async function readKeyframe(reader: Reader): Promise<Pick<MapKeyframe, "owners" | "map" | "counts" | "violations">> {
  const head = object(parse(new TextDecoder("utf-8", { fatal: true }).decode(reader.take(reader.u32()))), "keyframe");
  const frames = integer(head["frames"], "frames", 1, MAX_FRAMES);
  const owners = list(head["owners"], "owners").map((row, i): Owner => {
    const r = object(row, `owners[${i}]`);
    const owner = text(r["owner"], "owner"), name = text(r["name"], "name");
    return { byte: integer(r["byte"], "byte", 0, 254), owner, name: owner.startsWith("vm:") ? name : say(name), letter: text(r["letter"], "letter") };
  });
  // Byte 254 means "other" without being announced: frames of a VM that has just gone.
  if (!owners.some((owner) => owner.byte === OTHER)) owners.push({ byte: OTHER, owner: "other", name: say("other"), letter: "" });
  const violations = readViolations(reader);
  const map = await inflate(reader.take(reader.left), frames);
  const counts = countsOf(map);
  const known = new Set(owners.map((owner) => owner.byte));
  counts.forEach((pages, byte) => {
    if (pages > 0 && !known.has(byte)) throw new WireError(`owner byte ${byte} is not in the keyframe's table`);
  });
  for (const mfn of violations) if (mfn >= frames) throw new WireError(`violation at frame ${mfn} of ${frames}`);
  return { owners, map, counts, violations };
}

/** Frames per owner byte. Real maps are runs, so four equal frames are counted at once. */
export function countsOf(map: Uint8Array): Uint32Array {
  const counts = new Uint32Array(256);
  const words = new Uint32Array(map.buffer, map.byteOffset, map.length >> 2);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    const byte = word & 0xff;
    if (word === (byte * 0x01010101) >>> 0) counts[byte] = (counts[byte] as number) + 4;
    else for (let at = i * 4; at < i * 4 + 4; at++) counts[map[at] as number] = (counts[map[at] as number] as number) + 1;
  }
  for (let at = words.length * 4; at < map.length; at++) counts[map[at] as number] = (counts[map[at] as number] as number) + 1;
  return counts;
}

function readViolations(reader: Reader): Uint32Array {
  const count = reader.u32();
  reader.expect(count * 4);
  return Uint32Array.from({ length: count }, () => reader.u32());
}

class Reader {
  private at = 0;
  private readonly view: DataView;
  constructor(private readonly bytes: Uint8Array<ArrayBuffer>) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  get left(): number { return this.bytes.length - this.at; }
  expect(size: number): void {
    if (size > this.left) throw new WireError(`${size} bytes announced, ${this.left} left`);
  }
  u8(): number { this.expect(1); return this.view.getUint8(this.at++); }
  u32(): number { this.expect(4); this.at += 4; return this.view.getUint32(this.at - 4, true); }
  take(size: number): Uint8Array<ArrayBuffer> { this.expect(size); this.at += size; return this.bytes.subarray(this.at - size, this.at); }
}

/** Exactly `size` bytes, or a WireError: a longer stream is given up as soon as it passes the size. */
async function inflate(packed: Uint8Array<ArrayBuffer>, size: number): Promise<Uint8Array> {
  const out = new Uint8Array(size);
  let at = 0;
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      if (at + chunk.value.length > size) {
        void reader.cancel().catch(() => undefined);
        throw new WireError(`the map inflates to more than ${size} bytes`);
      }
      out.set(chunk.value, at);
      at += chunk.value.length;
    }
  } catch (error) {
    throw error instanceof WireError ? error : new WireError("the map does not inflate");
  }
  if (at !== size) throw new WireError(`the map inflates to ${at} bytes, not ${size}`);
  return out;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// ---- text: everything else ----------------------------------------------------------------------------------------

export function readText(raw: string): Message {
  const message = object(parse(raw), "message");
  if ("type" in message) return readControl(message);
  const topic = text(message["topic"], "topic");
  const kind = message["kind"];
  if (kind !== "keyframe" && kind !== "delta") throw new WireError(`unknown kind ${String(kind)}`);
  const seq = integer(message["seq"], "seq", 0);
  const numbered = { topic, kind, seq, base: integer(message["base"] ?? seq, "base", 0), op: integer(message["op"] ?? 0, "op", 0) } as const;
  const last = topic.slice(topic.lastIndexOf("/") + 1);
  if (last === "map") throw new WireError("a map comes in binary");
  const data = message["data"];
  if (last === "tlb") return { ...numbered, type: "tlb", data: readTlb(object(data, "tlb")) };
  if (last === "counters") return { ...numbered, type: "counters", data: readCounters(object(data, "counters")) };
  if (last === "log") return { ...numbered, type: "log", data: { events: list(object(data, "log")["events"], "events").map(readEvent) } };
  if (last === "matrix") return { ...numbered, type: "matrix", data: { cells: list(object(data, "matrix")["cells"], "cells").map(readCell) } };
  return { ...numbered, type: "other", data };
}

function readControl(m: Record<string, unknown>): Control {
  const type = m["type"];
  switch (type) {
    case "pong": return { type };
    case "caption": return { type, text: text(m["text"], "text") };
    case "moment": {
      const unit = m["unit"];
      if (unit !== "op" && unit !== "step") throw new WireError(`unknown unit ${String(unit)}`);
      const n = (name: string): number => integer(m[name], name, 0);
      return { type, run: n("run"), at: n("at"), oldest: n("oldest"), newest: n("newest"), unit, says: text(m["says"], "says") };
    }
    case "mark": return { type, name: text(m["name"], "name") };
    case "current": return { type, topic: text(m["topic"], "topic"), seq: integer(m["seq"], "seq", 0) };
    case "replay": return { type, topic: text(m["topic"], "topic"), from: integer(m["from"], "from", 0), to: integer(m["to"], "to", 0) };
    case "snapshot": return { type, topic: text(m["topic"], "topic") };
    case "denied":
    case "gone": return { type, topic: text(m["topic"], "topic"), reason: text(m["reason"], "reason") };
    case "state": return { type, topic: text(m["topic"], "topic"), state: text(m["state"], "state") };
    default: throw new WireError(`unknown message type ${String(type)}`);
  }
}

function readTlb(d: Record<string, unknown>): TlbData {
  const g = object(d["geometry"], "geometry");
  const level = (name: "l1" | "l2"): Geometry["l1"] => {
    const l = object(g[name], name);
    return { sets: integer(l["sets"], "sets", 1, 4096), ways: integer(l["ways"], "ways", 1, 64) };
  };
  const geometry = { cores: integer(g["cores"], "cores", 1, 256), l1: level("l1"), l2: level("l2") };
  const total = geometry.cores * waysPerCore(geometry);
  const entries: TlbEntry[] = [];
  const emptied: number[] = [];
  for (const row of list(d["entries"], "entries")) {
    const r = list(row, "entry");
    const index = integer(r[0], "index", 0, total - 1);
    if (r.length === 1) {
      emptied.push(index);
      continue;
    }
    const state = r[6];
    if (state !== "ok" && state !== "STALE" && state !== "PENDING") throw new WireError(`unknown entry state ${String(state)}`);
    entries.push({
      index, vpn: text(r[1], "vpn"), owner: integer(r[2], "owner", 0, 254), size: integer(r[3], "size", 1), perm: text(r[4], "perm"),
      age: integer(r[5], "age", 0), state, dim: integer(r[7], "dim", 1, 2), mfn: integer(r[8], "mfn", 0),
    });
  }
  return { geometry, entries, emptied };
}

export const waysPerCore = (g: Geometry): number => g.l1.sets * g.l1.ways + g.l2.sets * g.l2.ways;

function readCounts(d: Record<string, unknown>): Counts {
  const n = (name: keyof Counts): number => integer(d[name], name, 0);
  return { references: n("references"), l1: n("l1"), l2: n("l2"), miss: n("miss"), faults: n("faults") };
}

function readCounters(d: Record<string, unknown>): CountersData {
  const vms = list(d["vms"], "vms").map((row): VmCounts => {
    const r = object(row, "vm");
    return {
      ...readCounts(r), name: text(r["name"], "name"), letter: text(r["letter"], "letter"), byte: integer(r["byte"], "byte", 0, 254),
      frames: integer(r["frames"], "frames", 0),
    };
  });
  const owners: Record<string, number> = {};
  for (const [name, count] of Object.entries(object(d["owners"], "owners"))) owners[name] = integer(count, name, 0);
  return { ...readCounts(d), op: integer(d["op"], "op", 0), vms, owners };
}

function readEvent(row: unknown): LogEvent {
  const r = object(row, "event");
  const s = (name: string): string => optionalText(r[name], name);
  return {
    number: integer(r["number"], "number", 0), op: r["op"] == null ? null : integer(r["op"], "op", 0), at: s("at"), kind: s("kind"), vm: s("vm"), title: s("title"),
    outcome: s("outcome"), check: s("check"), detail: r["detail"] == null ? {} : object(r["detail"], "detail"),
  };
}

function readCell(row: unknown): MatrixCell {
  const r = object(row, "cell");
  const s = (name: string): string => optionalText(r[name], name);
  const state = r["state"];
  if (state !== "queued" && state !== "running" && state !== "done") throw new WireError(`unknown cell state ${String(state)}`);
  return {
    attack: text(r["attack"], "attack"), title: s("title"), architecture: text(r["architecture"], "architecture"), state, outcome: s("outcome"),
    evidence: s("evidence"), check: s("check"), seed: s("seed"), digest: s("digest"), url: s("url"),
    word: s("word") || s("outcome").replaceAll("_", " "), oldWord: s("old_word"), engine: s("engine"), durationMs: s("duration_ms"), ops: s("ops"),
  };
}

function parse(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown;
  } catch {
    throw new WireError("not JSON");
  }
}

function object(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new WireError(`${name} is not an object`);
  return value as Record<string, unknown>;
}

function list(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw new WireError(`${name} is not a list`);
  return value as unknown[];
}

function text(value: unknown, name: string): string {
  if (typeof value !== "string") throw new WireError(`${name} is not a text`);
  return value;
}

/** Numbers are allowed where a text is shown (seeds); a missing value reads as empty. */
function optionalText(value: unknown, name: string): string {
  if (value === undefined || value === null) return "";
  return typeof value === "number" ? String(value) : text(value, name);
}

function integer(value: unknown, name: string, low: number, high = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < low || value > high) {
    throw new WireError(`${name} is not a whole number from ${low} to ${high}`);
  }
  return value;
}
