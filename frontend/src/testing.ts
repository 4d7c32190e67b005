/** Frames as the server writes them, made from the description of the format; for tests only. */

import { deflateSync } from "node:zlib";
import { crc32 } from "./wire";

const OWNERS = [
  { byte: 0, owner: "free", name: "free", letter: "" }, { byte: 1, owner: "hypervisor", name: "hypervisor", letter: "" },
  { byte: 2, owner: "hsvm", name: "hsvm", letter: "" }, { byte: 3, owner: "vm:65537", name: "a-db", letter: "A" },
  { byte: 4, owner: "vm:65538", name: "b-web", letter: "B" },
];

function frame(kind: number, run: number, seq: number, base: number, op: number, body: Buffer): ArrayBuffer {
  const out = Buffer.alloc(32 + body.length);
  out.writeUInt16LE(0x5648, 0);
  out.writeUInt8(1, 2);
  out.writeUInt8(kind, 3);
  out.writeUInt32LE(run, 4);
  out.writeUInt32LE(seq, 8);
  out.writeUInt32LE(base, 12);
  out.writeBigUInt64LE(BigInt(op), 16);
  out.writeUInt32LE(body.length, 24);
  out.writeUInt32LE(crc32(body), 28);
  body.copy(out, 32);
  return out.buffer.slice(out.byteOffset, out.byteOffset + out.length) as ArrayBuffer;
}

const u32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);

export function keyframe(k: { run: number; seq: number; op?: number; map: Uint8Array; frames?: number; violations?: number[] }): ArrayBuffer {
  const head = Buffer.from(JSON.stringify({ frames: k.frames ?? k.map.length, owners: OWNERS }));
  const wrong = k.violations ?? [];
  return frame(1, k.run, k.seq, k.seq, k.op ?? 0, Buffer.concat([u32(head.length), head, u32(wrong.length, ...wrong), deflateSync(k.map)]));
}

export function delta(d: { run: number; seq: number; base: number; op?: number; changes: [number, number][]; violations?: number[] }): ArrayBuffer {
  const rows = d.changes.map(([mfn, byte]) => Buffer.concat([u32(mfn), Buffer.of(byte)]));
  const wrong = d.violations ?? [];
  return frame(2, d.run, d.seq, d.base, d.op ?? 0, Buffer.concat([u32(rows.length), ...rows, u32(wrong.length, ...wrong)]));
}

/** A repeatable stream of numbers below `limit`. */
export function numbers(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** One record of a recording, or of an answer to a poll. */
export function record(payload: ArrayBuffer): ArrayBuffer {
  const out = Buffer.alloc(9 + payload.byteLength);
  out.writeUInt8(1, 4);
  out.writeUInt32LE(payload.byteLength, 5);
  Buffer.from(payload).copy(out, 9);
  return out.buffer.slice(out.byteOffset, out.byteOffset + out.length) as ArrayBuffer;
}
