/** Paints owner bytes into pixels: one stamp per owner and cell size, copied row by row. Knows arrays only. */

import { inTexture, lookOf, pixel, shade, type Look } from "./palette";
import type { Grid, Window } from "./map_geometry";
import type { Owner } from "./wire";

/** A cell's pixels, row by row. */
export type Stamp = Uint32Array;
/** Draws the letter into a stamp of `size` pixels; the page gives one that uses a canvas. */
export type Lettering = (stamp: Stamp, size: number, look: Look) => void;

const BACKGROUND = pixel("#000000");
const TEXTURE_FROM = 2;
const LETTER_FROM = 8;
const GAP_FROM = 12;

export function stampOf(look: Look, size: number, letter: Lettering): Stamp {
  const stamp = new Uint32Array(size * size).fill(pixel(look.colour));
  if (size < TEXTURE_FROM) return stamp;
  const second = shade(look.colour);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) if (inTexture(look.texture, x, y, size)) stamp[y * size + x] = second;
  if (size >= LETTER_FROM && look.letter !== "") letter(stamp, size, look);
  if (size >= GAP_FROM) {
    // A dark line right and below separates the cells.
    for (let i = 0; i < size; i++) stamp[i * size + size - 1] = stamp[(size - 1) * size + i] = BACKGROUND;
  }
  stamp[0] = pixel(look.colour);
  return stamp;
}

/** Stamps by owner byte; bytes without a row stay undefined (the store lets none of them in). */
export function stampsOf(owners: readonly Owner[], size: number, letter: Lettering): (Stamp | undefined)[] {
  const stamps = new Array<Stamp | undefined>(256).fill(undefined);
  for (const owner of owners) stamps[owner.byte] = stampOf(lookOf(owner), size, letter);
  return stamps;
}

/** Fills `out` (window.width x window.height) with the window's part of the map. */
export function paint(out: Uint32Array, map: Uint8Array, grid: Grid, window: Window, stamps: readonly (Stamp | undefined)[]): void {
  const { cell, width, height } = window;
  if (cell === 1) return paintSingle(out, map, grid, window, stamps);
  for (let row = window.row, top = 0; top < height; row++, top += cell) {
    const lines = Math.min(cell, height - top);
    for (let column = window.column, left = 0; left < width; column++, left += cell) {
      const across = Math.min(cell, width - left);
      const mfn = row * grid.columns + column;
      const stamp = column < grid.columns && mfn < grid.frames ? stamps[map[mfn] as number] : undefined;
      for (let line = 0; line < lines; line++) {
        const to = (top + line) * width + left;
        if (stamp === undefined) out.fill(BACKGROUND, to, to + across);
        else for (let x = 0, from = line * cell; x < across; x++) out[to + x] = stamp[from + x] as number;
      }
    }
  }
}

function paintSingle(out: Uint32Array, map: Uint8Array, grid: Grid, window: Window, stamps: readonly (Stamp | undefined)[]): void {
  const colours = Uint32Array.from(stamps, (stamp) => stamp?.[0] ?? BACKGROUND);
  for (let y = 0; y < window.height; y++) {
    const from = (window.row + y) * grid.columns + window.column;
    for (let x = 0; x < window.width; x++) {
      const mfn = from + x;
      out[y * window.width + x] = mfn < grid.frames && window.column + x < grid.columns ? (colours[map[mfn] as number] as number) : BACKGROUND;
    }
  }
}
