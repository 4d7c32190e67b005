/** Violations on the map: markers of one size at every zoom. Markers that would overlap become one with a number; none is dropped. */

import { shownBox, type Grid, type Window } from "./map_geometry";
import type { MaxPyramid } from "./map_pyramid";

export interface Ring { x: number; y: number; count: number }

/** One marker for every violation that the window shows, in part or whole, no two nearer than `size` pixels to each other. */
export function rings(grid: Grid, window: Window, wrong: MaxPyramid, size: number): Ring[] {
  const found: Ring[] = [];
  // Buckets of the marker's size hold at most one marker each, so only the eight around can be too near.
  const across = Math.ceil(window.width / size) + 2;
  const buckets = new Int32Array(across * (Math.ceil(window.height / size) + 2)).fill(-1);
  const box = shownBox(grid, window);
  wrong.each(box.left, box.top, box.right, box.bottom, (column, row) => {
    const x = Math.min(window.width - 1, (column - window.column + 0.5) * window.cell);
    const y = Math.min(window.height - 1, (row - window.row + 0.5) * window.cell);
    const bucket = (Math.floor(y / size) + 1) * across + Math.floor(x / size) + 1;
    const near = nearby(found, buckets, bucket, across, x, y, size);
    if (near !== undefined) near.count += 1;
    else buckets[bucket] = found.push({ x, y, count: 1 }) - 1;
  });
  return found;
}

function nearby(found: Ring[], buckets: Int32Array, bucket: number, across: number, x: number, y: number, size: number): Ring | undefined {
  for (let dy = -across; dy <= across; dy += across) {
    for (let dx = -1; dx <= 1; dx++) {
      const ring = found[buckets[bucket + dy + dx] as number];
      if (ring !== undefined && Math.abs(ring.x - x) < size && Math.abs(ring.y - y) < size) return ring;
    }
  }
  return undefined;
}

/** The next (or previous) of sorted frames after `mfn`, from the other end when there is none. */
export function around(sorted: Uint32Array, mfn: number, direction: 1 | -1): number | undefined {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < mfn + (direction > 0 ? 1 : 0)) low = middle + 1;
    else high = middle;
  }
  return direction > 0 ? (sorted[low] ?? sorted[0]) : (sorted[low - 1] ?? sorted.at(-1));
}
