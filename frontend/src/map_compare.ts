/** Two moments, or two runs of equal size, frame by frame: how many went from whom to whom, exact. Pure arrays. */

import type { MapState } from "./store";
import type { Owner } from "./wire";
import { opNumber, t } from "./words";

export interface Side { map: Uint8Array; owners: readonly Owner[]; label: string }
export interface Pair { from: string; to: string; pages: number }

/** Everything of a state that a comparison needs, kept though the state goes on. */
export const sideOf = (state: MapState, label = t("op {op}", { op: opNumber(state.op) })): Side => ({ map: state.map.slice(), owners: state.owners, label });

export class Comparison {
  /** A's frames in the bytes of the present; owners that are gone have bytes that the present does not use. */
  private readonly a: Uint8Array;
  private readonly gone = new Map<number, Owner>();
  /** By byte in A * 256 + byte now; equal pairs are not counted. */
  private readonly pairs = new Uint32Array(65_536);

  constructor(readonly side: Side, map: Uint8Array, private readonly owners: readonly Owner[]) {
    this.a = this.translated();
    count(this.pairs, this.a, map);
  }

  changed(mfn: number, now: number): boolean {
    return this.a[mfn] !== now;
  }

  /** Keeps the counts while the present goes on. */
  note(mfn: number, before: number, after: number): void {
    const was = (this.a[mfn] as number) * 256;
    if (was / 256 !== before) this.pairs[was + before] = (this.pairs[was + before] as number) - 1;
    if (was / 256 !== after) this.pairs[was + after] = (this.pairs[was + after] as number) + 1;
  }

  ownerBefore(mfn: number): string {
    return this.name(this.a[mfn] as number);
  }

  /** Most pages first. */
  rows(): Pair[] {
    const rows: Pair[] = [];
    this.pairs.forEach((pages, i) => {
      if (pages > 0) rows.push({ from: this.name(i >> 8), to: this.name(i & 255), pages });
    });
    return rows.sort((x, y) => y.pages - x.pages || (x.from + x.to < y.from + y.to ? -1 : 1));
  }

  private name(byte: number): string {
    const owner = this.gone.get(byte) ?? this.owners.find((each) => each.byte === byte);
    return owner?.name ?? "unknown";
  }

  /** Another run numbers its owners otherwise, and so may another moment: the same owner has the same id and name, or else the name. */
  private translated(): Uint8Array {
    const table = new Uint8Array(256).fill(255);
    let spare = 253;
    for (const owner of this.side.owners) {
      const same = this.owners.find((each) => each.owner === owner.owner && each.name === owner.name) ?? this.owners.find((each) => each.name === owner.name);
      if (same !== undefined) table[owner.byte] = same.byte;
      else {
        while (this.owners.some((each) => each.byte === spare)) spare--;
        this.gone.set(spare, owner);
        table[owner.byte] = spare--;
      }
    }
    const used = this.side.owners.every((owner) => table[owner.byte] === owner.byte);
    return used ? this.side.map : this.side.map.map((byte) => table[byte] as number);
  }
}

/** Equal frames are skipped four at a time. */
function count(pairs: Uint32Array, a: Uint8Array, b: Uint8Array): void {
  const one = (mfn: number): void => {
    if (a[mfn] === b[mfn]) return;
    const i = (a[mfn] as number) * 256 + (b[mfn] as number);
    pairs[i] = (pairs[i] as number) + 1;
  };
  const words = a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0 ? a.length >> 2 : 0;
  const [x, y] = [new Uint32Array(a.buffer, a.byteOffset & ~3, words), new Uint32Array(b.buffer, b.byteOffset & ~3, words)];
  for (let i = 0; i < words; i++) if (x[i] !== y[i]) for (let mfn = i * 4; mfn < i * 4 + 4; mfn++) one(mfn);
  for (let mfn = words * 4; mfn < a.length; mfn++) one(mfn);
}
