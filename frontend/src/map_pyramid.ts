/** What one pixel shows that stands for 2 x 2, 4 x 4, 8 x 8... frames. Two pyramids over a grid of bytes: the highest mark, and the owner of most. */

const LEVELS = 13;
/** Up to this block's side owners are counted anew from the frames; above it counts are kept. */
const COUNTED = 3;

/** A grid of bytes, its sides padded to whole blocks of 8 x 8. */
export interface Plane { width: number; height: number; bytes: Uint8Array }

export const padded = (size: number): number => Math.ceil(size / 8) * 8;

export function plane(columns: number, rows: number, fill = 0): Plane {
  const [width, height] = [padded(columns), padded(rows)];
  return { width, height, bytes: new Uint8Array(width * height).fill(fill) };
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

/** The byte that most frames of a block have; of equally many the one of the later class. Exact at every level, and kept so change by change. */
export class DominantPyramid {
  readonly levels: Plane[];
  /** By level from COUNTED on: frames per block and class. */
  private readonly counts: (Uint8Array | Uint32Array)[] = [];
  private readonly votes: Uint32Array;
  private readonly quarter: Uint32Array;

  /** `classes`: a class number for each byte; `NOTHING` has none. `shown`: the byte that stands for each class. */
  constructor(private readonly base: Plane, private readonly classes: Uint8Array, private readonly shown: Uint8Array) {
    this.levels = [base];
    this.votes = new Uint32Array(shown.length);
    this.quarter = new Uint32Array(shown.length + 1);
    for (let level = 1; level < LEVELS; level++) this.levels.push(halved(this.levels[level - 1] as Plane));
    this.countBlocks();
    for (let level = COUNTED + 1; level < LEVELS; level++) this.addUp(level);
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
      if (counts === undefined) here.bytes[at] = this.voted(x << level, y << level, 1 << level);
      else {
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

  /** Levels 1 to 3 of every block of 8 x 8 in one go: blocks of one owner, nearly all of a real map, are sixteen comparisons. */
  private countBlocks(): void {
    const { base, classes, shown } = this;
    const [one, two, three] = [this.levels[1], this.levels[2], this.levels[3]] as [Plane, Plane, Plane];
    const k = shown.length;
    const counts = new Uint8Array(three.bytes.length * k);
    this.counts[COUNTED] = counts;
    const words = new Uint32Array(base.bytes.buffer, base.bytes.byteOffset, base.bytes.length >> 2);
    const [ones, twos] = [new Uint32Array(one.bytes.buffer), new Uint16Array(two.bytes.buffer)];
    const across = base.width >> 2;
    for (let y = 0, at = 0; y < three.height; y++) {
      for (let x = 0; x < three.width; x++, at++) {
        const byte = base.bytes[y * 8 * base.width + x * 8] as number;
        const word = (byte * 0x01010101) >>> 0;
        let uniform = true;
        for (let row = 0, i = y * 8 * across + x * 2; row < 8 && uniform; row++, i += across) uniform = words[i] === word && words[i + 1] === word;
        const its = classes[byte] as number;
        if (uniform) {
          const face = its < k ? (shown[its] as number) : NOTHING;
          if (its < k) counts[at * k + its] = 64;
          for (let i = 0; i < 4; i++) ones[((y * 4 + i) * one.width) / 4 + x] = (face * 0x01010101) >>> 0;
          for (let i = 0; i < 2; i++) twos[((y * 2 + i) * two.width) / 2 + x] = face * 0x0101;
          three.bytes[at] = face;
          continue;
        }
        this.countBlock(x, y);
        for (let i = 0; i < k; i++) counts[at * k + i] = this.votes[i] as number;
      }
    }
  }

  /** One block of 8 x 8 in which owners meet; afterwards `votes` are its counts. */
  private countBlock(x: number, y: number): void {
    const { base, classes, shown, votes, quarter } = this;
    const [one, two, three] = [this.levels[1], this.levels[2], this.levels[3]] as [Plane, Plane, Plane];
    const [bytes, width, k] = [base.bytes, base.width, shown.length];
    for (let i = 0; i < k; i++) votes[i] = 0;
    for (let q = 0; q < 4; q++) {
      for (let i = 0; i <= k; i++) quarter[i] = 0;
      const [x2, y2] = [x * 2 + (q & 1), y * 2 + (q >> 1)];
      for (let i = 0; i < 4; i++) {
        const [x1, y1] = [x2 * 2 + (i & 1), y2 * 2 + (i >> 1)];
        const from = y1 * 2 * width + x1 * 2;
        const a = Math.min(k, classes[bytes[from] as number] as number);
        const b = Math.min(k, classes[bytes[from + 1] as number] as number);
        const c = Math.min(k, classes[bytes[from + width] as number] as number);
        const d = Math.min(k, classes[bytes[from + width + 1] as number] as number);
        quarter[a] = (quarter[a] as number) + 1;
        quarter[b] = (quarter[b] as number) + 1;
        quarter[c] = (quarter[c] as number) + 1;
        quarter[d] = (quarter[d] as number) + 1;
        one.bytes[y1 * one.width + x1] = shown[ofFour(a, b, c, d, k)] ?? NOTHING;
      }
      two.bytes[y2 * two.width + x2] = this.most(quarter, 0);
      for (let i = 0; i < k; i++) votes[i] = (votes[i] as number) + (quarter[i] as number);
    }
    three.bytes[y * three.width + x] = this.most(votes, 0);
  }

  private addUp(level: number): void {
    const [below, here] = [this.levels[level - 1] as Plane, this.levels[level] as Plane];
    const under = this.counts[level - 1] as Uint8Array | Uint32Array;
    const k = this.shown.length;
    const counts = new Uint32Array(here.bytes.length * k);
    this.counts[level] = counts;
    for (let y = 0; y < below.height; y++) {
      for (let x = 0; x < below.width; x++) {
        const [from, to] = [(y * below.width + x) * k, ((y >> 1) * here.width + (x >> 1)) * k];
        for (let i = 0; i < k; i++) counts[to + i] = (counts[to + i] as number) + (under[from + i] as number);
      }
    }
    for (let at = 0; at < here.bytes.length; at++) here.bytes[at] = this.most(counts, at * k);
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
