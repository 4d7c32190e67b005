/** Where a frame lies: address rows, integer cells, a window that never leaves the map. Pure numbers. */

export interface Grid { frames: number; columns: number; rows: number }
/** `cell` pixels per frame; (column, row) is the frame drawn at the window's top left. */
export interface Window { cell: number; column: number; row: number; width: number; height: number }

export const MAX_CELL = 64;

/** The widest power of two that gives at least as many columns as rows: 16,384 frames are 128 x 128. */
export function gridOf(frames: number): Grid {
  const columns = 2 ** Math.ceil(Math.log2(Math.max(1, frames)) / 2);
  return { frames, columns, rows: Math.ceil(frames / columns) };
}

/** The largest whole cell with which the map fits into the room, at least 1, and the canvas that shows it. */
export function fit(grid: Grid, room: { width: number; height: number }): Window {
  const cell = Math.max(1, Math.min(16, Math.floor(Math.min(room.width / grid.columns, room.height / grid.rows))));
  const width = Math.min(grid.columns * cell, Math.floor(room.width));
  const height = Math.min(grid.rows * cell, Math.max(1, Math.floor(room.height)));
  return { cell, column: 0, row: 0, width, height };
}

export const frameAt = (grid: Grid, column: number, row: number): number | null => {
  const mfn = row * grid.columns + column;
  return column < 0 || column >= grid.columns || row < 0 || mfn >= grid.frames ? null : mfn;
};

export const place = (grid: Grid, mfn: number): { column: number; row: number } => ({
  column: mfn % grid.columns,
  row: Math.floor(mfn / grid.columns),
});

/** The same window moved to (column, row), kept on the map. */
export function moved(grid: Grid, window: Window, column: number, row: number): Window {
  const lastColumn = Math.max(0, Math.ceil(grid.columns - window.width / window.cell));
  const lastRow = Math.max(0, Math.ceil(grid.rows - window.height / window.cell));
  return { ...window, column: clamp(column, 0, lastColumn), row: clamp(row, 0, lastRow) };
}

/** Zooms to `cell` pixels; the frame under pixel (x, y) stays under it as far as whole cells and the edges allow. */
export function zoomed(grid: Grid, window: Window, cell: number, x: number, y: number): Window {
  const column = window.column + x / window.cell - x / cell;
  const row = window.row + y / window.cell - y / cell;
  return moved(grid, { ...window, cell }, Math.round(column), Math.round(row));
}

/** The next larger or smaller cell: multiples of the fitting cell, doubled each time. */
export function nextCell(base: number, cell: number, direction: 1 | -1): number {
  if (direction < 0) return Math.max(base, cell >> 1);
  return cell * 2 > Math.max(MAX_CELL, base) ? cell : cell * 2;
}

/** Pans just far enough to bring the frame into the window. */
export function revealed(grid: Grid, window: Window, mfn: number): Window {
  const { column, row } = place(grid, mfn);
  const across = Math.max(1, Math.floor(window.width / window.cell));
  const down = Math.max(1, Math.floor(window.height / window.cell));
  return moved(
    grid, window,
    column < window.column ? column : column >= window.column + across ? column - across + 1 : window.column,
    row < window.row ? row : row >= window.row + down ? row - down + 1 : window.row,
  );
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

export interface Extent { start: number; length: number; byte: number }

/** Runs of frames with one owner, in address order. */
export function extents(map: Uint8Array): Extent[] {
  const found: Extent[] = [];
  for (let start = 0; start < map.length; ) {
    const byte = map[start] as number;
    let end = start + 1;
    while (end < map.length && map[end] === byte) end++;
    found.push({ start, length: end - start, byte });
    start = end;
  }
  return found;
}

/** First frame of the next (or this and previous) extent. */
export function extentStep(map: Uint8Array, mfn: number, direction: 1 | -1): number {
  const byte = map[mfn];
  let at = mfn;
  if (direction > 0) {
    while (at < map.length && map[at] === byte) at++;
    return at < map.length ? at : mfn;
  }
  while (at > 0 && map[at - 1] === byte) at--;
  if (at < mfn || at === 0) return at;
  const before = map[at - 1];
  while (at > 0 && map[at - 1] === before) at--;
  return at;
}

export interface Ring { x: number; y: number; count: number }

/** One marker per violation inside the window; markers that would overlap become one with a number. None is ever dropped. */
export function rings(grid: Grid, window: Window, violations: Uint32Array, size: number): Ring[] {
  const buckets = new Map<string, Ring>();
  for (const mfn of violations) {
    const { column, row } = place(grid, mfn);
    const x = (column - window.column + 0.5) * window.cell;
    const y = (row - window.row + 0.5) * window.cell;
    if (x < 0 || y < 0 || x >= window.width || y >= window.height) continue;
    const key = `${Math.floor(x / size)} ${Math.floor(y / size)}`;
    const ring = buckets.get(key);
    if (ring === undefined) buckets.set(key, { x, y, count: 1 });
    else ring.count += 1;
  }
  return [...buckets.values()];
}
