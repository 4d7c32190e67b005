/** The Hilbert curve: neighbours in address are neighbours on the map. Squares of side 2^n; pure numbers. */

// A quadrant's curve is the canonical one, mirrored at the diagonal (bit 0) and turned by half (bit 1); both together commute,
// so an orientation is two bits, and going into a quadrant is an exclusive or.
const STEP_X = [0, 0, 1, 1];
const STEP_Y = [0, 1, 1, 0];
const TURN = [1, 0, 0, 3];
/** By orientation * 4 + quarter of the way: which quadrant (y * 2 + x) it is in. */
const QUADRANT = Uint8Array.from({ length: 16 }, (_, i) => {
  const [turn, quarter] = [i >> 2, i & 3];
  const [x, y] = [STEP_X[quarter] as number, STEP_Y[quarter] as number];
  const [mx, my] = turn & 1 ? [y, x] : [x, y];
  return turn & 2 ? (1 - my) * 2 + (1 - mx) : my * 2 + mx;
});
/** The other way: by orientation * 4 + quadrant. */
const QUARTER = new Uint8Array(16);
QUADRANT.forEach((quadrant, i) => (QUARTER[(i & 12) + quadrant] = i & 3));

export interface Point { x: number; y: number }

/** Where step `d` of the curve through a square of `side` lies. */
export function pointAt(side: number, d: number): Point {
  let [x, y, turn] = [0, 0, 0];
  for (let size = (side * side) / 4; size >= 1; size /= 4) {
    const quarter = Math.floor(d / size) & 3;
    const quadrant = QUADRANT[turn * 4 + quarter] as number;
    x = x * 2 + (quadrant & 1);
    y = y * 2 + (quadrant >> 1);
    turn ^= TURN[quarter] as number;
  }
  return { x, y };
}

/** Which step of the curve lies at (x, y). */
export function stepAt(side: number, x: number, y: number): number {
  let [d, turn] = [0, 0];
  for (let bit = side >> 1; bit >= 1; bit >>= 1) {
    const quarter = QUARTER[turn * 4 + (y & bit ? 2 : 0) + (x & bit ? 1 : 0)] as number;
    d = d * 4 + quarter;
    turn ^= TURN[quarter] as number;
  }
  return d;
}

const BLOCK = 8;

/** Lays `map` along the curve into `cells` (`stride` cells a row): the square whose first frame is `first` begins at column `left`. */
export function unroll(cells: Uint8Array, stride: number, map: Uint8Array, first: number, left: number, side: number): void {
  const block = Math.min(BLOCK, side);
  const inside = block * block;
  // One table of 64 offsets for each of the four orientations; a block of the curve is then 64 copies.
  const offsets = [0, 1, 2, 3].map((turn) => Int32Array.from({ length: inside }, (_, d) => {
    const { x, y } = turned(pointAt(block, d), block, turn);
    return y * stride + x;
  }));
  const end = Math.min(map.length, first + side * side);
  for (let from = first; from < end; from += inside) {
    let [x, y, turn] = [0, 0, 0];
    for (let size = (side * side) / 4; size >= inside; size /= 4) {
      const quarter = Math.floor((from - first) / size) & 3;
      const quadrant = QUADRANT[turn * 4 + quarter] as number;
      x = x * 2 + (quadrant & 1);
      y = y * 2 + (quadrant >> 1);
      turn ^= TURN[quarter] as number;
    }
    const to = y * block * stride + x * block + left;
    const table = offsets[turn] as Int32Array;
    for (let d = 0, n = Math.min(inside, end - from); d < n; d++) cells[to + (table[d] as number)] = map[from + d] as number;
  }
}

function turned({ x, y }: Point, side: number, turn: number): Point {
  const [mx, my] = turn & 1 ? [y, x] : [x, y];
  return turn & 2 ? { x: side - 1 - mx, y: side - 1 - my } : { x: mx, y: my };
}
