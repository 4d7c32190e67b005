/** The newest state of every topic. A message applied twice or out of order changes nothing. Knows no DOM, no socket. */

import { waysPerCore, type CountersData, type Frame, type Geometry, type LogEvent, type MapDelta, type MapKeyframe, type MatrixCell,
  type MatrixFrame, type LogFrame, type Owner, type TlbEntry, type TlbFrame } from "./wire";

export interface MapState {
  type: "map"; seq: number; op: number; owners: Owner[]; map: Uint8Array; violations: Uint32Array;
  /** Exact number of frames per owner byte, kept up with every change. */
  counts: Uint32Array;
  /** Changes of the last delta, for the announcement. */
  changed: number;
  /** Which frames the newest deltas changed, for whoever follows this very state. */
  deltas?: Deltas;
  /** The map is still the keyframe's own; the first delta takes a copy. */
  shared?: boolean;
}
export interface TlbState { type: "tlb"; seq: number; op: number; geometry: Geometry; entries: (TlbEntry | null)[]; touched: Set<number> | "all" }
export interface CountersState { type: "counters"; seq: number; op: number; data: CountersData }
export interface LogState { type: "log"; seq: number; op: number; events: LogEvent[] }
export interface MatrixState { type: "matrix"; seq: number; op: number; cells: Map<string, MatrixCell> }
export interface OtherState { type: "other"; seq: number; op: number; data: unknown }
export type TopicState = MapState | TlbState | CountersState | LogState | MatrixState | OtherState;

/** The frames of the newest deltas, at most about a million of them. */
export class Deltas {
  private kept: Uint32Array[] = [];
  private frames = 0;
  /** Deltas ever added. */
  total = 0;

  add(frames: Uint32Array): void {
    this.kept.push(frames);
    this.frames += frames.length;
    this.total += 1;
    while (this.kept.length > 256 || (this.frames > KEPT_FRAMES && this.kept.length > 1)) this.frames -= this.kept.shift()?.length ?? 0;
  }

  /** Those after the first `seen`; null when some of them are no longer held. */
  since(seen: number): Uint32Array[] | null {
    const missing = this.total - seen;
    return missing < 0 || missing > this.kept.length ? null : this.kept.slice(this.kept.length - missing);
  }
}

export type Applied = "applied" | "ignored" | "gap";

const LOG_LENGTH = 500;
const KEPT_FRAMES = 1 << 20;

export class Store {
  private readonly states = new Map<string, TopicState>();
  private readonly listeners = new Map<string, Set<() => void>>();

  get(topic: string): TopicState | undefined {
    return this.states.get(topic);
  }

  seq(topic: string): number | null {
    return this.states.get(topic)?.seq ?? null;
  }

  /** Tells of every change of the topic; the answer ends it. */
  subscribe(topic: string, listener: () => void): () => void {
    const set = this.listeners.get(topic) ?? new Set();
    this.listeners.set(topic, set.add(listener));
    return () => set.delete(listener);
  }

  forget(topic: string): void {
    this.states.delete(topic);
  }

  topics(): string[] {
    return [...this.states.keys()];
  }

  apply(frame: Frame): Applied {
    const old = this.states.get(frame.topic);
    if (frame.kind === "delta") {
      if (old === undefined) return "gap";
      if (frame.seq <= old.seq) return "ignored";
      if (frame.base !== old.seq) return "gap";
    } else if (old !== undefined && frame.seq < old.seq) {
      return "ignored";
    }
    const state = next(old, frame);
    if (state === null) return "gap";
    state.seq = frame.seq;
    state.op = frame.op;
    this.states.set(frame.topic, state);
    for (const listener of this.listeners.get(frame.topic) ?? []) listener();
    return "applied";
  }
}

/** The state after the frame; null when a delta does not fit what is held (then only a keyframe helps). */
function next(old: TopicState | undefined, frame: Frame): TopicState | null {
  switch (frame.type) {
    case "map": return frame.kind === "keyframe" ? mapKeyframe(frame) : old?.type === "map" ? mapDelta(old, frame) : null;
    case "tlb": return tlb(old?.type === "tlb" ? old : undefined, frame);
    case "counters": return { type: "counters", seq: frame.seq, op: frame.op, data: frame.data };
    case "log": return log(old?.type === "log" ? old : undefined, frame);
    case "matrix": return matrix(old?.type === "matrix" ? old : undefined, frame);
    case "other": return { type: "other", seq: frame.seq, op: frame.op, data: frame.data };
  }
}

function mapKeyframe(frame: MapKeyframe): MapState {
  const { seq, op, owners, map, violations } = frame;
  return { type: "map", seq, op, owners, map, violations, counts: frame.counts.slice(), changed: map.length, deltas: new Deltas(), shared: true };
}

function mapDelta(state: MapState, frame: MapDelta): MapState | null {
  const { counts } = state;
  const frames = state.map.length;
  const known = new Set(state.owners.map((owner) => owner.byte));
  if (frame.frames.some((mfn) => mfn >= frames) || frame.bytes.some((byte) => !known.has(byte))) return null;
  if (frame.violations.some((mfn) => mfn >= frames)) return null;
  // A recording shows its keyframes again, so nobody writes into them.
  if (state.shared === true) state.map = state.map.slice();
  state.shared = false;
  const { map } = state;
  for (let i = 0; i < frame.frames.length; i++) {
    const mfn = frame.frames[i] as number;
    const byte = frame.bytes[i] as number;
    const before = map[mfn] as number;
    counts[before] = (counts[before] as number) - 1;
    counts[byte] = (counts[byte] as number) + 1;
    map[mfn] = byte;
  }
  state.violations = frame.violations;
  state.deltas?.add(frame.frames);
  state.changed = frame.frames.length;
  return state;
}

function tlb(old: TlbState | undefined, frame: TlbFrame): TlbState | null {
  const { geometry, entries, emptied } = frame.data;
  if (frame.kind === "delta") {
    if (old === undefined || JSON.stringify(old.geometry) !== JSON.stringify(geometry)) return null;
    if (old.touched !== "all") for (const { index } of entries) old.touched.add(index);
    if (old.touched !== "all") for (const index of emptied) old.touched.add(index);
    for (const index of emptied) old.entries[index] = null;
    for (const entry of entries) old.entries[entry.index] = entry;
    return old;
  }
  const all = new Array<TlbEntry | null>(geometry.cores * waysPerCore(geometry)).fill(null);
  for (const entry of entries) all[entry.index] = entry;
  return { type: "tlb", seq: frame.seq, op: frame.op, geometry, entries: all, touched: "all" };
}

function log(old: LogState | undefined, frame: LogFrame): LogState {
  const known = frame.kind === "delta" && old !== undefined ? old.events : [];
  const last = known.at(-1)?.number ?? -1;
  const events = [...known, ...frame.data.events.filter((event) => event.number > last)].slice(-LOG_LENGTH);
  return { type: "log", seq: frame.seq, op: frame.op, events };
}

function matrix(old: MatrixState | undefined, frame: MatrixFrame): MatrixState {
  const cells = frame.kind === "delta" && old !== undefined ? new Map(old.cells) : new Map<string, MatrixCell>();
  for (const cell of frame.data.cells) cells.set(`${cell.attack} ${cell.architecture}`, cell);
  return { type: "matrix", seq: frame.seq, op: frame.op, cells };
}
