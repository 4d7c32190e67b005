/** Paints owner bytes into pixels: one stamp per owner and cell size, copied row by row. Knows arrays only. */

import { inkOf, inTexture, lookOf, pixel, shade, type Look } from "./palette";
import type { Grid, Window } from "./map_geometry";
import type { Plane } from "./map_pyramid";
import type { Owner } from "./wire";

/** A cell's pixels, row by row. */
export type Stamp = Uint32Array;
/** Stamps by owner byte. */
export type Stamps = readonly (Stamp | undefined)[];
/** Draws the letter into a stamp of `size` pixels; the page gives one that uses a canvas. */
export type Lettering = (stamp: Stamp, size: number, look: Look) => void;
/** `heavy` for a dim projector, `pattern` for paper and forced colours. */
export type Style = "colour" | "heavy" | "pattern";

export const BACKGROUND = pixel("#000000");
const TEXTURE_FROM = 2;
const LETTER_FROM = 8;
const GAP_FROM = 12;
/** How much of an owner's own colour is left where the reader looks for something else. */
const DIMMED = 0.28;

/** Black on white: what is left of a look on paper. Cells too small for a texture get its mean tone. */
export function patternLook(look: Look, size: number): Look {
  const other = look.className === "owner-other" ? "#B0B0B0" : "#FFFFFF";
  const colour = size < 4 ? TONES[look.texture] ?? other : look.texture === "solid" ? "#000000" : other;
  return { ...look, colour };
}
const TONES: Partial<Record<Look["texture"], string>> = {
  solid: "#000000", dots: "#D8D8D8", horizontal: "#A8A8A8", vertical: "#909090", checks: "#787878", rings: "#C0C0C0", zigzag: "#606060", hatch: "#484848", crosshatch: "#303030",
};

export function stampOf(look: Look, size: number, letter: Lettering, style: Style = "colour"): Stamp {
  const pattern = style === "pattern";
  const shown = pattern ? patternLook(look, size) : look;
  const stamp = new Uint32Array(size * size).fill(pixel(shown.colour));
  if (size < TEXTURE_FROM) return stamp;
  const second = style === "colour" ? shade(look.colour) : pixel(pattern ? "#000000" : inkOf(look.colour));
  if (!pattern || size >= 4) {
    for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) if (inTexture(look.texture, x, y, size)) stamp[y * size + x] = second;
  }
  if (size >= LETTER_FROM && look.letter !== "") letter(stamp, size, shown);
  if (size >= GAP_FROM) {
    // A line right and below separates the cells.
    const line = pattern ? pixel("#808080") : BACKGROUND;
    for (let i = 0; i < size; i++) stamp[i * size + size - 1] = stamp[(size - 1) * size + i] = line;
  }
  stamp[0] = pixel(shown.colour);
  return stamp;
}

/** Stamps by owner byte; bytes without a row stay undefined (the store lets none of them in). */
export function stampsOf(owners: readonly Owner[], size: number, letter: Lettering, style: Style = "colour"): (Stamp | undefined)[] {
  const stamps = new Array<Stamp | undefined>(256).fill(undefined);
  for (const owner of owners) stamps[owner.byte] = stampOf(lookOf(owner), size, letter, style);
  return stamps;
}

/** The same stamps near the canvas's colour, or near white. */
export function dimmed(stamps: Stamps, style: Style = "colour"): (Stamp | undefined)[] {
  const towards = style === "pattern" ? 255 : 15;
  const mix = (channel: number): number => Math.round((channel & 0xff) * DIMMED + towards * (1 - DIMMED));
  return stamps.map((stamp) => stamp?.map((each) => (0xff000000 | (mix(each >> 16) << 16) | (mix(each >> 8) << 8) | mix(each)) >>> 0));
}

/** What is painted: a plane of owner bytes (of frames, or of blocks of `per` x `per`), and by mark which stamps are used. */
export interface Scene { plane: Plane; marks: Plane | null; faces: readonly Stamps[]; background: number }

/** Where in a picture of `stride` pixels a row a window is painted. */
interface Target { out: Uint32Array; offset: number; stride: number }

/** Fills `out` (window.width x window.height) with the window's part of the map. */
export function paint(out: Uint32Array, scene: Scene, grid: Grid, window: Window): void {
  paintInto({ out, offset: 0, stride: window.width }, scene, grid, window);
}

/** The same when `out` holds the map as seen from (column, row) of `before`: what stays is moved, only what is new is painted. */
export function repaint(out: Uint32Array, scene: Scene, grid: Grid, window: Window, before: Pick<Window, "column" | "row">): void {
  const { cell, width, height } = window;
  const [dx, dy] = [(window.column - before.column) * cell, (window.row - before.row) * cell];
  if (Math.abs(dx) >= width || Math.abs(dy) >= height) return paint(out, scene, grid, window);
  const by = dy * width + dx;
  if (by > 0) out.copyWithin(0, by);
  else out.copyWithin(-by, 0, out.length + by);
  // A cell that the old picture's edge cut is painted again.
  const whole = (at: number): number => (cell <= 1 ? at : Math.floor(at / cell) * cell);
  const strip = (left: number, top: number, right: number, bottom: number): void => {
    if (right <= left || bottom <= top) return;
    const part = { ...window, column: window.column + left / cell, row: window.row + top / cell, width: right - left, height: bottom - top };
    paintInto({ out, offset: top * width + left, stride: width }, scene, grid, part);
  };
  if (dy > 0) strip(0, whole(height - dy), width, height);
  else strip(0, 0, width, -dy);
  if (dx > 0) strip(whole(width - dx), 0, width, height);
  else strip(0, 0, -dx, height);
}

function paintInto(target: Target, scene: Scene, grid: Grid, window: Window): void {
  if (window.cell <= 1) return paintSingle(target, scene, grid, window);
  const { out, offset, stride } = target;
  const { cell, width, height } = window;
  const { plane, marks, faces, background } = scene;
  const still = faces[0] as Stamps;
  for (let row = window.row, top = 0; top < height; row++, top += cell) {
    const lines = Math.min(cell, height - top);
    for (let column = window.column, left = 0; left < width; column++, left += cell) {
      const across = Math.min(cell, width - left);
      const at = row * plane.width + column;
      const inside = column < grid.columns && row < grid.rows;
      const stamps = marks === null || !inside ? still : faces[marks.bytes[at] as number] ?? still;
      const stamp = inside ? stamps[plane.bytes[at] as number] : undefined;
      for (let line = 0; line < lines; line++) {
        const to = offset + (top + line) * stride + left;
        if (stamp === undefined) out.fill(background, to, to + across);
        else for (let x = 0, from = line * cell; x < across; x++) out[to + x] = stamp[from + x] as number;
      }
    }
  }
}

/** One pixel a frame, or a block of frames: colours looked up in one table. */
function paintSingle({ out, offset, stride }: Target, scene: Scene, grid: Grid, window: Window): void {
  const { plane, marks, faces, background } = scene;
  const colours = new Uint32Array(faces.length * 256).fill(background);
  faces.forEach((stamps, mark) => stamps.forEach((stamp, byte) => {
    if (stamp !== undefined) colours[mark * 256 + byte] = stamp[0] as number;
  }));
  const [left, top] = [window.column * window.cell, window.row * window.cell];
  const across = Math.max(0, Math.min(window.width, Math.ceil(grid.columns * window.cell) - left));
  const bytes = plane.bytes;
  for (let y = 0, to = offset; y < window.height; y++, to += stride) {
    const row = top + y;
    if (row >= Math.ceil(grid.rows * window.cell)) {
      out.fill(background, to, to + window.width);
      continue;
    }
    const from = row * plane.width + left;
    if (marks === null) for (let x = 0; x < across; x++) out[to + x] = colours[bytes[from + x] as number] as number;
    else for (let x = 0; x < across; x++) out[to + x] = colours[(marks.bytes[from + x] as number) * 256 + (bytes[from + x] as number)] as number;
    if (across < window.width) out.fill(background, to + across, to + window.width);
  }
}
