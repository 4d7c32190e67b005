/** What one pixel shows that stands for 2 x 2, 4 x 4, 8 x 8... frames. Two pyramids over a grid of bytes: the highest mark, and the owner of most. */

const LEVELS = 13;
/** Up to this block's side owners are counted anew from the frames; above it counts are kept. */
const COUNTED = 3;

/** A grid of bytes, its sides padded to whole blocks of 8 x 8. */
export interface Plane { width: number; height: number; bytes: Uint8Array }

export const padded = (size: number): number => Math.ceil(size / 8) * 8;

export function plane(columns: number, rows: number, fill = 0): Plane {
  const [width, height] = [padded(columns), padded(rows)];
  const bytes = new Uint8Array(width * height);
  return { width, height, bytes: fill === 0 ? bytes : bytes.fill(fill) };
}

const halved = ({ width, height }: { width: number; height: number }): Plane => {
  const [w, h] = [Math.ceil(width / 2), Math.ceil(height / 2)];
  return { width: w, height: h, bytes: new Uint8Array(w * h) };
};

/** The highest value in every block, so that a single marked cell in 16.7 million stays to be seen at every zoom. */
export class MaxPyramid {
  readonly levels: Plane[];

  constructor(columns: number, rows: number, base = plane(columns, rows)) {
    this.levels = [base];
    for (let level = 1; level < LEVELS; level++) this.levels.push(halved(this.levels[level - 1] as Plane));
  }

  get(column: number, row: number): number {
    const base = this.levels[0] as Plane;
    return base.bytes[row * base.width + column] as number;
  }

  /** Changes one cell and what stands above it, as far up as it makes a difference. */
  set(column: number, row: number, value: number): void {
    const base = this.levels[0] as Plane;
    base.bytes[row * base.width + column] = value;
    for (let level = 1, x = column >> 1, y = row >> 1; level < this.levels.length; level++, x >>= 1, y >>= 1) {
      const here = this.levels[level] as Plane;
      const highest = highestBelow(this.levels[level - 1] as Plane, x, y);
      if (here.bytes[y * here.width + x] === highest) return;
      here.bytes[y * here.width + x] = highest;
    }
  }

  /** After level 0 was filled by other means. */
  rebuild(): void {
    for (let level = 1; level < this.levels.length; level++) {
      const [below, here] = [this.levels[level - 1] as Plane, this.levels[level] as Plane];
      for (let y = 0, at = 0; y < here.height; y++) for (let x = 0; x < here.width; x++) here.bytes[at++] = highestBelow(below, x, y);
    }
  }

  /** Visits every marked cell in the box, and no block that holds none. */
  each(left: number, top: number, right: number, bottom: number, visit: (column: number, row: number) => void): void {
    const down = (level: number, x: number, y: number): void => {
      const here = this.levels[level] as Plane;
      if (x >= here.width || y >= here.height || here.bytes[y * here.width + x] === 0) return;
      if (x << level > right || y << level > bottom || ((x + 1) << level) - 1 < left || ((y + 1) << level) - 1 < top) return;
      if (level === 0) return visit(x, y);
      for (let i = 0; i < 4; i++) down(level - 1, x * 2 + (i & 1), y * 2 + (i >> 1));
    };
    const top_ = this.levels[LEVELS - 1] as Plane;
    for (let y = 0; y < top_.height; y++) for (let x = 0; x < top_.width; x++) down(LEVELS - 1, x, y);
  }
}

function highestBelow(below: Plane, x: number, y: number): number {
  const { width, height, bytes } = below;
  const at = y * 2 * width + x * 2;
  const right = x * 2 + 1 < width;
  const under = y * 2 + 1 < height;
  const [a, b] = [bytes[at] as number, right ? (bytes[at + 1] as number) : 0];
  const [c, d] = [under ? (bytes[at + width] as number) : 0, right && under ? (bytes[at + width + 1] as number) : 0];
  return Math.max(a, b, c, d);
}

/** No frame there; also what a block without frames shows. */
export const NOTHING = 255;

/** Counted together, straight from the frames: a row of theirs is one of blocks of 8 x 8. */
const FINE = 1;

/**
 * The byte that most frames of a block have; of equally many the one of the later class. Exact at every level, and kept so change by change.
 * A level is counted when it is first looked at; `prepare` counts the others ahead, a few rows at a time.
 */
export class DominantPyramid {
  private readonly levels: Plane[];
  /** By level from COUNTED on: frames per block and class. */
  private readonly counts: (Uint8Array | Uint32Array)[] = [];
  /** By level from COUNTED on, and for the FINE ones: how many rows are counted. */
  private readonly rows = new Array<number>(LEVELS).fill(0);
  private readonly votes: Uint32Array;
  private readonly words: Uint32Array;

  /** `classes`: a class number for each byte; `NOTHING` has none. `shown`: the byte that stands for each class. */
  constructor(private readonly base: Plane, private readonly classes: Uint8Array, private readonly shown: Uint8Array) {
    this.levels = [base];
    this.votes = new Uint32Array(shown.length);
    this.words = new Uint32Array(base.bytes.buffer, base.bytes.byteOffset, base.bytes.length >> 2);
    for (let level = 1; level < LEVELS; level++) {
      this.levels.push(halved(this.levels[level - 1] as Plane));
      const blocks = (this.levels[level] as Plane).bytes.length * shown.length;
      if (level >= COUNTED) this.counts[level] = level === COUNTED ? new Uint8Array(blocks) : new Uint32Array(blocks);
    }
  }

  level(level: number): Plane {
    if (level > 0 && level < COUNTED) this.count(FINE);
    for (let each = COUNTED; each <= level; each++) this.count(each);
    return this.levels[level] as Plane;
  }

  /** Goes on counting until a row ends after `until`. True when every level is counted. */
  prepare(until: number): boolean {
    for (let level = COUNTED; level < LEVELS; level++) if (!this.count(level, until)) return false;
    return this.count(FINE, until);
  }

  private count(level: number, until = Infinity): boolean {
    const { height } = this.levels[Math.max(level, COUNTED)] as Plane;
    for (let row = this.rows[level] as number; row < height; row++) {
      if (performance.now() > until) return false;
      if (level === FINE) this.countFine(row);
      else if (level === COUNTED) this.countBlocks(row);
      else this.addUp(level, row);
      this.rows[level] = row + 1;
    }
    return true;
  }

  /** Cell (column, row) went from byte `before` to the byte that the base now holds. */
  changed(column: number, row: number, before: number): void {
    const base = this.base;
    const [from, to] = [this.classes[before] as number, this.classes[base.bytes[row * base.width + column] as number] as number];
    if (from === to) return;
    for (let level = 1; level < LEVELS; level++) {
      const here = this.levels[level] as Plane;
      const [x, y] = [column >> level, row >> level];
      const at = y * here.width + x;
      const counts = this.counts[level];
      // Rows that are yet to be counted will be, from what lies below them.
      if (counts === undefined) {
        if (row >> COUNTED < (this.rows[FINE] as number)) here.bytes[at] = this.voted(x << level, y << level, 1 << level);
      } else if (y < (this.rows[level] as number)) {
        const k = this.shown.length;
        if (from < k) counts[at * k + from] = (counts[at * k + from] as number) - 1;
        if (to < k) counts[at * k + to] = (counts[at * k + to] as number) + 1;
        here.bytes[at] = this.most(counts, at * k);
      }
    }
  }

  /** Counts a small block anew. */
  private voted(left: number, top: number, side: number): number {
    const { votes, classes, base } = this;
    votes.fill(0);
    for (let y = top; y < top + side; y++) {
      for (let x = left, at = y * base.width + left; x < left + side; x++, at++) {
        const its = classes[base.bytes[at] as number] as number;
        if (its < votes.length) votes[its] = (votes[its] as number) + 1;
      }
    }
    return this.most(votes, 0);
  }

  private most(counts: Uint8Array | Uint32Array, from: number): number {
    let best = 1;
    let found = -1;
    for (let i = 0, k = this.shown.length; i < k; i++) {
      const votes = counts[from + i] as number;
      if (votes < best) continue;
      best = votes;
      found = i;
    }
    return found < 0 ? NOTHING : (this.shown[found] as number);
  }

  /** Whether all frames of a block of 8 x 8 are of one byte, as nearly all of a real map are: sixteen comparisons. */
  private uniform(x: number, y: number): boolean {
    const { words } = this;
    const across = this.base.width >> 2;
    let at = y * 8 * across + x * 2;
    const word = words[at] as number;
    if (word !== ((word & 0xff) * 0x01010101) >>> 0) return false;
    for (let row = 0; row < 8; row++, at += across) if (words[at] !== word || words[at + 1] !== word) return false;
    return true;
  }

  /** A row of level 3. Even where owners meet most frames have the neighbours' owner, so four equal ones are counted at once. */
  private countBlocks(y: number): void {
    const { words, classes, shown } = this;
    const across = this.base.width >> 2;
    const here = this.levels[COUNTED] as Plane;
    const counts = this.counts[COUNTED] as Uint8Array;
    const k = shown.length;
    for (let x = 0, at = y * here.width; x < here.width; x++, at++) {
      const first = y * 8 * across + x * 2;
      if (this.uniform(x, y)) {
        const its = classes[(words[first] as number) & 0xff] as number;
        if (its < k) counts[at * k + its] = 64;
        here.bytes[at] = shown[its] ?? NOTHING;
        continue;
      }
      for (let i = 0; i < 16; i++) {
        const word = words[first + (i >> 1) * across + (i & 1)] as number;
        const equal = word === ((word & 0xff) * 0x01010101) >>> 0;
        for (let shift = 0; shift < (equal ? 8 : 32); shift += 8) {
          const its = classes[(word >>> shift) & 0xff] as number;
          if (its < k) counts[at * k + its] = (counts[at * k + its] as number) + (equal ? 4 : 1);
        }
      }
      here.bytes[at] = this.most(counts, at * k);
    }
  }

  /** Levels 1 and 2 of a row of blocks of 8 x 8. */
  private countFine(y: number): void {
    const { base: { bytes, width }, classes, shown } = this;
    const [one, two, three] = [this.levels[1], this.levels[2], this.levels[3]] as [Plane, Plane, Plane];
    const [ones, twos] = [new Uint32Array(one.bytes.buffer), new Uint16Array(two.bytes.buffer)];
    const k = shown.length;
    for (let x = 0; x < three.width; x++) {
      if (this.uniform(x, y)) {
        const face = shown[classes[bytes[y * 8 * width + x * 8] as number] as number] ?? NOTHING;
        for (let i = 0; i < 4; i++) ones[((y * 4 + i) * one.width) / 4 + x] = (face * 0x01010101) >>> 0;
        for (let i = 0; i < 2; i++) twos[((y * 2 + i) * two.width) / 2 + x] = face * 0x0101;
        continue;
      }
      for (let i = 0; i < 16; i++) {
        const [x1, y1] = [x * 4 + (i & 3), y * 4 + (i >> 2)];
        const from = y1 * 2 * width + x1 * 2;
        const a = Math.min(k, classes[bytes[from] as number] as number);
        const b = Math.min(k, classes[bytes[from + 1] as number] as number);
        const c = Math.min(k, classes[bytes[from + width] as number] as number);
        const d = Math.min(k, classes[bytes[from + width + 1] as number] as number);
        one.bytes[y1 * one.width + x1] = shown[ofFour(a, b, c, d, k)] ?? NOTHING;
      }
      for (let i = 0; i < 4; i++) {
        const [x2, y2] = [x * 2 + (i & 1), y * 2 + (i >> 1)];
        two.bytes[y2 * two.width + x2] = this.voted(x2 * 4, y2 * 4, 4);
      }
    }
  }

  /** A row of a level from the two rows below it. */
  private addUp(level: number, y: number): void {
    const [below, here] = [this.levels[level - 1] as Plane, this.levels[level] as Plane];
    const [under, counts] = [this.counts[level - 1] as Uint8Array | Uint32Array, this.counts[level] as Uint32Array];
    const k = this.shown.length;
    for (let row = y * 2; row < Math.min(below.height, y * 2 + 2); row++) {
      for (let x = 0; x < below.width; x++) {
        const [from, to] = [(row * below.width + x) * k, (y * here.width + (x >> 1)) * k];
        for (let i = 0; i < k; i++) counts[to + i] = (counts[to + i] as number) + (under[from + i] as number);
      }
    }
    for (let at = y * here.width; at < (y + 1) * here.width; at++) here.bytes[at] = this.most(counts, at * k);
  }
}

/** The class of most of four; of equally many the later one, but `nothing` only if all are. */
function ofFour(a: number, b: number, c: number, d: number, nothing: number): number {
  if (a === b && a === c && a === d) return a;
  let best = 0;
  let found = nothing;
  for (let i = 0; i < 4; i++) {
    const each = i === 0 ? a : i === 1 ? b : i === 2 ? c : d;
    if (each === nothing) continue;
    const votes = (a === each ? 1 : 0) + (b === each ? 1 : 0) + (c === each ? 1 : 0) + (d === each ? 1 : 0);
    if (votes > best || (votes === best && each > found)) {
      best = votes;
      found = each;
    }
  }
  return found;
}
