/** Where a frame lies, in address rows or along the Hilbert curve, and a window that never leaves the map. Pure numbers. */

import { pointAt, stepAt } from "./map_hilbert";

export type Order = "rows" | "hilbert";
/** `side`: of the Hilbert squares, which stand side by side. */
export interface Grid { frames: number; columns: number; rows: number; order: Order; side: number }
/** `cell` pixels per frame, or 1/n where one pixel stands for n x n frames; (column, row) is what is drawn at the window's top left. */
export interface Window { cell: number; column: number; row: number; width: number; height: number }
export interface Room { width: number; height: number }
/** Of cells, right and bottom included. */
export interface Box { left: number; top: number; right: number; bottom: number }

export const MAX_CELL = 64;

/** The widest power of two that gives at least as many columns as rows: 16,384 frames are 128 x 128. */
export function gridOf(frames: number, order: Order = "rows"): Grid {
  const columns = 2 ** Math.ceil(Math.log2(Math.max(1, frames)) / 2);
  const rows = Math.ceil(frames / columns);
  // Half a square is not a piece of the curve, but two squares of half the side are: the curve leaves one where it enters the next.
  const side = order === "hilbert" && rows <= columns / 2 ? columns / 2 : columns;
  return { frames, columns, rows: order === "hilbert" ? side : rows, order, side };
}

export function frameAt(grid: Grid, column: number, row: number): number | null {
  if (column < 0 || column >= grid.columns || row < 0 || row >= grid.rows) return null;
  const { side } = grid;
  const mfn = grid.order === "rows" ? row * grid.columns + column
    : Math.floor(column / side) * side * side + stepAt(side, column % side, row);
  return mfn >= grid.frames ? null : mfn;
}

export function place(grid: Grid, mfn: number): { column: number; row: number } {
  if (grid.order === "rows") return { column: mfn % grid.columns, row: Math.floor(mfn / grid.columns) };
  const square = grid.side * grid.side;
  const { x, y } = pointAt(grid.side, mfn % square);
  return { column: x + Math.floor(mfn / square) * grid.side, row: y };
}

/** The largest whole cell with which the map fits into the room; a map larger than the room has 2, 4, 8... frames to a pixel. */
export function fittingCell(grid: Grid, room: Room): number {
  const cell = Math.min(16, Math.floor(Math.min(room.width / grid.columns, room.height / grid.rows)));
  if (cell >= 1) return cell;
  let per = 2;
  while ((grid.columns / per > room.width || grid.rows / per > room.height) && per < grid.columns) per *= 2;
  return 1 / per;
}

/** A window of this cell, as large as room and map allow. */
export function sized(grid: Grid, room: Room, cell: number): { width: number; height: number } {
  return {
    width: Math.max(1, Math.min(Math.ceil(grid.columns * cell), Math.floor(room.width))),
    height: Math.max(1, Math.min(Math.ceil(grid.rows * cell), Math.floor(room.height))),
  };
}

export function fit(grid: Grid, room: Room): Window {
  const cell = fittingCell(grid, room);
  return { cell, column: 0, row: 0, ...sized(grid, room, cell) };
}

/** The same window moved to (column, row), kept on the map and, where a pixel holds several frames, on whole pixels. */
export function moved(grid: Grid, window: Window, column: number, row: number): Window {
  const { cell } = window;
  const last = (size: number, pixels: number): number => Math.max(0, whole(Math.ceil(size - pixels / cell), cell, Math.ceil));
  const on = (at: number, size: number, pixels: number): number => clamp(whole(at, cell, Math.round), 0, last(size, pixels));
  return { ...window, column: on(column, grid.columns, window.width), row: on(row, grid.rows, window.height) };
}

/** Zooms to `cell` pixels; the frame under pixel (x, y) stays under it as far as whole cells and the edges allow. */
export function zoomed(grid: Grid, window: Window, cell: number, x: number, y: number): Window {
  const column = window.column + x / window.cell - x / cell;
  const row = window.row + y / window.cell - y / cell;
  return moved(grid, { ...window, cell }, Math.round(column), Math.round(row));
}

/** The next larger or smaller cell: the fitting cell, doubled each time. */
export function nextCell(base: number, cell: number, direction: 1 | -1): number {
  if (direction < 0) return Math.max(base, cell / 2);
  return cell * 2 > Math.max(MAX_CELL, base) ? cell : cell * 2;
}

/** Pans just far enough to bring the frame into the window. */
export function revealed(grid: Grid, window: Window, mfn: number): Window {
  const { column, row } = place(grid, mfn);
  const across = Math.max(1, Math.floor(window.width / window.cell));
  const down = Math.max(1, Math.floor(window.height / window.cell));
  return moved(
    grid, window,
    column < window.column ? whole(column, window.cell, Math.floor) : column >= window.column + across ? whole(column - across + 1, window.cell, Math.ceil) : window.column,
    row < window.row ? whole(row, window.cell, Math.floor) : row >= window.row + down ? whole(row - down + 1, window.cell, Math.ceil) : window.row,
  );
}

/** To a whole pixel's frames, in the given direction: rounding to the nearest could leave the frame outside. */
const whole = (at: number, cell: number, round: (value: number) => number): number => (cell >= 1 ? at : round(at * cell) / cell);

/** Centre of a frame's cell in pixels of the window. */
export function centre(grid: Grid, window: Window, mfn: number): { x: number; y: number } {
  const { column, row } = place(grid, mfn);
  return { x: (column - window.column + 0.5) * window.cell, y: (row - window.row + 0.5) * window.cell };
}

/** The cells that the window shows, in part or whole. */
export function shownBox(grid: Grid, window: Window): Box {
  return {
    left: window.column, top: window.row,
    right: Math.min(grid.columns, Math.ceil(window.column + window.width / window.cell)) - 1,
    bottom: Math.min(grid.rows, Math.ceil(window.row + window.height / window.cell)) - 1,
  };
}

/** Boxes of cells that hold exactly the frames `from` to `to`: at most three in rows, aligned squares along the curve. */
export function boxesOf(grid: Grid, from: number, to: number): Box[] {
  const boxes: Box[] = [];
  const add = (first: number, width: number, height: number): void => {
    const { column, row } = place(grid, first);
    boxes.push({ left: column, top: row, right: column + width - 1, bottom: row + height - 1 });
  };
  const { columns } = grid;
  for (let at = from; at <= to; ) {
    const left = to - at + 1;
    if (grid.order === "rows") {
      const width = Math.min(left, columns - (at % columns));
      const height = width === columns ? Math.floor(left / columns) : 1;
      add(at, width, height);
      at += width * height;
    } else {
      let size = 1;
      while (size * 2 <= grid.side && at % (size * size * 4) === 0 && size * size * 4 <= left) size *= 2;
      const { column, row } = place(grid, at);
      const [x, y] = [column - (column % size), row - (row % size)];
      boxes.push({ left: x, top: y, right: x + size - 1, bottom: y + size - 1 });
      at += size * size;
    }
  }
  return boxes;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
