/** Page numbers in large cells, written into the pixels themselves: a frame with a thousand numbers is too slow to write as text. */

import { frameAt, type Grid, type Window } from "./map_geometry";

/** How strongly each pixel of the sixteen hexadecimal digits is inked, 0 to 15, side by side. */
export interface Digits { width: number; height: number; ink: Uint8Array }
/** By owner byte: sixteen colours from the owner's own to its ink. */
export type Ramps = readonly (Uint32Array | undefined)[];

/** The text of a cell is centred; the last line of a cell stays free for the line between cells. */
export function writeNumber(out: Uint32Array, stride: number, rows: number, left: number, bottom: number, text: string, digits: Digits, ramp: Uint32Array): void {
  const { width, height, ink } = digits;
  for (let i = 0; i < text.length; i++) {
    const glyph = parseInt(text[i] as string, 16) * width;
    for (let y = 0; y < height; y++) {
      const row = bottom - height + y;
      if (row < 0 || row >= rows) continue;
      for (let x = 0; x < width; x++) {
        const at = left + i * width + x;
        if (at >= 0 && at < stride) out[row * stride + at] = ramp[ink[y * width * 16 + glyph + x] as number] as number;
      }
    }
  }
}

/** The number of every frame in the window. */
export function writeNumbers(out: Uint32Array, grid: Grid, window: Window, map: Uint8Array, digits: Digits, ramps: Ramps): void {
  const { cell, width, height } = window;
  for (let row = 0; row * cell < height; row++) {
    for (let column = 0; column * cell < width; column++) {
      const mfn = frameAt(grid, window.column + column, window.row + row);
      const ramp = mfn === null ? undefined : ramps[map[mfn] as number];
      if (mfn === null || ramp === undefined) continue;
      const text = mfn.toString(16);
      writeNumber(out, width, height, column * cell + ((cell - 1 - text.length * digits.width) >> 1), (row + 1) * cell - 2, text, digits, ramp);
    }
  }
}
