/** Runs of frames with one owner: steps from run to run, all of them as columns of numbers, and how long they are. Pure arrays. */

/** Start and owner byte of every run, in address order; a run ends where the next begins. */
export interface Extents { starts: Uint32Array; bytes: Uint8Array; frames: number }

/** First frame at or after `at` whose byte differs from `byte`. Runs of millions are skipped four frames at a time. */
function endOf(map: Uint8Array, at: number, byte: number): number {
  while (at < map.length && (at + map.byteOffset) % 4 !== 0 && map[at] === byte) at++;
  if (map[at] === byte && (at + map.byteOffset) % 4 === 0) {
    const words = new Uint32Array(map.buffer, map.byteOffset + at, (map.length - at) >> 2);
    const word = (byte * 0x01010101) >>> 0;
    let i = 0;
    while (i < words.length && words[i] === word) i++;
    at += i * 4;
  }
  while (at < map.length && map[at] === byte) at++;
  return at;
}

export function startOf(map: Uint8Array, at: number): number {
  const byte = map[at];
  while (at > 0 && (at + map.byteOffset) % 4 !== 0 && map[at - 1] === byte) at--;
  if (at > 0 && map[at - 1] === byte && (at + map.byteOffset) % 4 === 0) {
    const words = new Uint32Array(map.buffer, map.byteOffset + (at % 4), at >> 2);
    const word = ((byte as number) * 0x01010101) >>> 0;
    let i = words.length;
    while (i > 0 && words[i - 1] === word) i--;
    at -= (words.length - i) * 4;
  }
  while (at > 0 && map[at - 1] === byte) at--;
  return at;
}

/** The run that frame `mfn` is in. */
export function extentAt(map: Uint8Array, mfn: number): { start: number; length: number } {
  const start = startOf(map, mfn);
  return { start, length: endOf(map, mfn, map[mfn] as number) - start };
}

/** First frame of the next (or this and previous) extent. */
export function extentStep(map: Uint8Array, mfn: number, direction: 1 | -1): number {
  if (direction > 0) {
    const end = endOf(map, mfn, map[mfn] as number);
    return end < map.length ? end : mfn;
  }
  const start = startOf(map, mfn);
  return start < mfn || start === 0 ? start : startOf(map, start - 1);
}

export function extentsOf(map: Uint8Array): Extents {
  let starts = new Uint32Array(1024);
  let size = 0;
  for (let at = 0; at < map.length; at = endOf(map, at, map[at] as number)) {
    if (size === starts.length) {
      const wider = new Uint32Array(size * 2);
      wider.set(starts);
      starts = wider;
    }
    starts[size++] = at;
  }
  starts = starts.slice(0, size);
  return { starts, bytes: Uint8Array.from(starts, (start) => map[start] as number), frames: map.length };
}

export const lengthOf = (all: Extents, i: number): number => (all.starts[i + 1] ?? all.frames) - (all.starts[i] as number);

/** How many runs are 1, 2-3, 4-7, 8-15... frames long, and how many frames those hold; free runs count like others. */
export function histogram(all: Extents): { from: number; to: number; extents: number; frames: number }[] {
  const rows: { from: number; to: number; extents: number; frames: number }[] = [];
  for (let i = 0; i < all.starts.length; i++) {
    const length = lengthOf(all, i);
    const bin = 31 - Math.clz32(length);
    while (rows.length <= bin) rows.push({ from: 2 ** rows.length, to: 2 ** (rows.length + 1) - 1, extents: 0, frames: 0 });
    const row = rows[bin] as { extents: number; frames: number };
    row.extents += 1;
    row.frames += length;
  }
  return rows;
}
