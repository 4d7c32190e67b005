/** The map as it is painted: frames laid out in the chosen order, what blocks of them show, violations, marks. Follows a state by its changes. */

import { gridOf, place, type Grid, type Order } from "./map_geometry";
import { unroll } from "./map_hilbert";
import { DominantPyramid, MaxPyramid, NOTHING, padded, plane, type Plane } from "./map_pyramid";
import type { MapState } from "./store";
import type { Owner } from "./wire";

/** Owners beyond these share one class (and look) when zoomed out. */
const CLASSES = 24;
/** After more changes at once the blocks are cheaper made anew, when next looked at. */
const MANY = 100_000;

/** Is told of every frame that changed, after the change. */
export type Watcher = (mfn: number, before: number, after: number) => void;

export class MapModel {
  grid: Grid = gridOf(1);
  owners: readonly Owner[] = [];
  /** Frames in address order, as last painted. */
  map = new Uint8Array(1);
  /** Frames in the grid's order; NOTHING where there is none. */
  cells: Plane = plane(1, 1, NOTHING);
  wrong = new MaxPyramid(1, 1);
  /** Sorted. */
  violations: Uint32Array = new Uint32Array(0);
  /** Grows with everything that a picture depends on. */
  version = 0;
  private source: MapState | null = null;
  private seen = 0;
  private budget = 0;
  private shownWrong: Uint32Array | null = null;
  private dominant: DominantPyramid | null = null;

  /** Takes the state over. True when it is another map (other size): then nothing of the old one is left. */
  follow(state: MapState, watch: Watcher = () => undefined): boolean {
    this.budget = MANY;
    const other = state.map.length !== this.map.length || this.source === null;
    if (other) this.begin(state);
    else {
      this.rename(state.owners);
      const news = state === this.source && state.deltas !== undefined ? state.deltas.since(this.seen) : null;
      if (news !== null) for (const frames of news) for (const mfn of frames) this.take(mfn, state.map[mfn] as number, watch);
      else this.compareAll(state.map, watch);
    }
    this.source = state;
    this.seen = state.deltas?.total ?? 0;
    if (this.shownWrong !== state.violations) this.takeViolations(state.violations);
    return other;
  }

  setOrder(order: Order): void {
    if (order === this.grid.order) return;
    this.grid = gridOf(this.map.length, order);
    this.layOut();
    this.layViolations();
  }

  /** What blocks of n x n frames show, n a power of two; level 0 is the frames themselves. */
  level(per: number): Plane {
    return per === 1 ? this.cells : (this.dominant ??= this.blocks()).level(Math.log2(per));
  }

  /** Counts ahead, for at most `ms` milliseconds, what other zooms will show. True when nothing is left to count. */
  prepare(ms: number): boolean {
    return (this.dominant ??= this.blocks()).prepare(performance.now() + ms);
  }

  isWrong(mfn: number): boolean {
    const { column, row } = place(this.grid, mfn);
    return this.wrong.get(column, row) > 0;
  }

  ownerOf(mfn: number): Owner | undefined {
    return this.owners.find((owner) => owner.byte === this.map[mfn]);
  }

  private begin(state: MapState): void {
    this.map = state.map.slice();
    this.owners = state.owners;
    this.grid = gridOf(this.map.length, this.grid.order);
    this.shownWrong = null;
    this.violations = new Uint32Array(0);
    this.layOut();
    this.layViolations();
  }

  /** One byte a frame, laid out as the grid is; `none` where there is no frame. */
  lay(bytes: Uint8Array, none: number): Plane {
    const { grid } = this;
    // Where rows are whole the bytes lie as they shall already: a copy of a large map costs a frame.
    if (grid.order === "rows" && padded(grid.columns) * padded(grid.rows) === bytes.length) return { width: grid.columns, height: grid.rows, bytes };
    const made = plane(grid.columns, grid.rows);
    if (made.bytes.length !== bytes.length) made.bytes.fill(none);
    if (grid.order === "hilbert") {
      for (let left = 0; left < grid.columns; left += grid.side) unroll(made.bytes, made.width, bytes, left * grid.side, left, grid.side);
    } else if (made.width === grid.columns) made.bytes.set(bytes);
    else bytes.forEach((byte, mfn) => (made.bytes[Math.floor(mfn / grid.columns) * made.width + (mfn % grid.columns)] = byte));
    return made;
  }

  private layOut(): void {
    this.cells = this.lay(this.map, NOTHING);
    this.dominant = null;
    this.version += 1;
  }

  private layViolations(): void {
    this.wrong = new MaxPyramid(this.grid.columns, this.grid.rows);
    this.mark(this.violations, 1);
  }

  private take(mfn: number, byte: number, watch: Watcher): void {
    const before = this.map[mfn] as number;
    if (before === byte) return;
    this.map[mfn] = byte;
    const { column, row } = place(this.grid, mfn);
    this.cells.bytes[row * this.cells.width + column] = byte;
    if (this.budget-- < 0) this.dominant = null;
    this.dominant?.changed(column, row, before);
    this.version += 1;
    watch(mfn, before, byte);
  }

  /** For a state that is not the last one's successor, such as a moment of the past: four frames at a time. */
  private compareAll(map: Uint8Array, watch: Watcher): void {
    const words = map.byteOffset % 4 === 0 ? map.length >> 2 : 0;
    const now = new Uint32Array(map.buffer, map.byteOffset - (map.byteOffset % 4), words);
    const was = new Uint32Array(this.map.buffer, 0, words);
    for (let i = 0; i < words; i++) {
      if (now[i] !== was[i]) for (let mfn = i * 4; mfn < i * 4 + 4; mfn++) this.take(mfn, map[mfn] as number, watch);
    }
    for (let mfn = words * 4; mfn < map.length; mfn++) this.take(mfn, map[mfn] as number, watch);
  }

  /** A keyframe may give a byte to another owner; whatever had it before must then count as changed. */
  private rename(owners: readonly Owner[]): void {
    if (owners === this.owners) return;
    const before = new Map(this.owners.map((owner) => [owner.byte, owner.owner]));
    const taken = owners.filter((owner) => before.has(owner.byte) && before.get(owner.byte) !== owner.owner).map((owner) => owner.byte);
    for (const byte of taken) {
      for (let mfn = this.map.indexOf(byte); mfn >= 0; mfn = this.map.indexOf(byte, mfn + 1)) this.take(mfn, NOTHING, () => undefined);
    }
    this.owners = owners;
    this.dominant = null;
    this.version += 1;
  }

  private blocks(): DominantPyramid {
    const shown = this.owners.slice(0, CLASSES).map((owner) => owner.byte);
    const classes = new Uint8Array(256).fill(NOTHING);
    this.owners.forEach((owner, i) => (classes[owner.byte] = Math.min(i, CLASSES - 1)));
    return new DominantPyramid(this.cells, classes, Uint8Array.from(shown));
  }

  private takeViolations(now: Uint32Array): void {
    const before = this.violations;
    this.shownWrong = now;
    this.violations = Uint32Array.from(new Set(now)).sort();
    // Those that stay are not touched, so that nothing above them is computed twice.
    const stays = new Set(this.violations);
    this.mark(before.filter((mfn) => !stays.has(mfn)), 0);
    const were = new Set(before);
    this.mark(this.violations.filter((mfn) => !were.has(mfn)), 1);
    this.version += 1;
  }

  private mark(frames: Uint32Array, value: number): void {
    for (const mfn of frames) {
      const { column, row } = place(this.grid, mfn);
      this.wrong.set(column, row, value);
    }
  }
}
