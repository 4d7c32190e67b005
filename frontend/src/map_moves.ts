/** Cursor and window of the map: every way to move them, the same in both orders. Numbers and the model; what is seen is redrawn by the view. */

import { extentStep } from "./map_extents";
import { fit, fittingCell, frameAt, moved, nextCell, place, revealed, sized, zoomed, type Order, type Room, type Window } from "./map_geometry";
import type { MapModel } from "./map_model";
import { around } from "./map_rings";
import { pageOf } from "./map_select";
import { t } from "./words";

export class MapMoves {
  window: Window | null = null;
  room: Room = { width: 1, height: 1 };
  base = 1;
  cursor = 0;
  hover: number | null = null;

  /** `said` is told where the cursor went, or why it went nowhere. */
  constructor(readonly model: MapModel, private readonly changed: () => void, private readonly said: (what: number | string) => void) {}

  /** The window for this room; the whole map when there is none yet. */
  settle(room: Room): Window {
    const same = room.width === this.room.width && room.height === this.room.height;
    if (this.window !== null && same) return this.window;
    this.room = room;
    const before = this.window;
    const whole = before === null || before.cell <= this.base;
    this.base = fittingCell(this.model.grid, room);
    if (before === null || whole || before.cell <= this.base) this.window = fit(this.model.grid, room);
    else this.window = moved(this.model.grid, { ...before, ...sized(this.model.grid, room, before.cell) }, before.column, before.row);
    return this.window;
  }

  fitAll(): void {
    this.window = fit(this.model.grid, this.room);
    this.changed();
  }

  setOrder(order: Order): void {
    this.model.setOrder(order);
    this.base = fittingCell(this.model.grid, this.room);
    const { window, model } = this;
    if (window === null || window.cell <= this.base) this.window = fit(model.grid, this.room);
    else this.window = revealed(model.grid, moved(model.grid, { ...window, ...sized(model.grid, this.room, window.cell) }, window.column, window.row), this.cursor);
    this.hover = null;
    this.changed();
  }

  /** One cell, or what one pixel shows where that is more. */
  step(x: number, y: number): void {
    const per = Math.max(1, 1 / (this.window?.cell ?? 1));
    const { column, row } = place(this.model.grid, this.cursor);
    this.to(frameAt(this.model.grid, column + x * per, row + y * per));
  }

  to(mfn: number | null): void {
    if (mfn === null || this.window === null) return;
    this.cursor = mfn;
    this.hover = null;
    this.window = revealed(this.model.grid, this.window, mfn);
    this.said(mfn);
    this.changed();
  }

  /** By parts of a screen. */
  pan(x: number, y: number): void {
    const { window } = this;
    if (window === null) return;
    const by = (part: number, size: number): number => Math.sign(part) * Math.max(1 / Math.min(1, window.cell), Math.round((Math.abs(part) * size) / window.cell));
    this.window = moved(this.model.grid, window, window.column + by(x, window.width), window.row + by(y, window.height));
    this.changed();
  }

  /** From where a drag began, by pixels. */
  drag(from: Window, x: number, y: number): void {
    if (from.cell !== this.window?.cell) return;
    this.window = moved(this.model.grid, this.window, from.column - Math.round(x / from.cell), from.row - Math.round(y / from.cell));
  }

  /** The point (0 to 1 of the map) into the middle of the window. */
  centre(x: number, y: number): void {
    const { window, model } = this;
    if (window === null) return;
    const at = (part: number, size: number, pixels: number): number => Math.round(part * size - pixels / window.cell / 2);
    this.window = moved(model.grid, window, at(x, model.grid.columns, window.width), at(y, model.grid.rows, window.height));
    this.changed();
  }

  /** Round pixel (x, y); without one round the cursor. */
  zoom(direction: 1 | -1, x?: number, y?: number): void {
    const { window, model } = this;
    if (window === null) return;
    const cell = nextCell(this.base, window.cell, direction);
    if (cell === window.cell) return;
    const { column, row } = place(model.grid, this.cursor);
    const fixed = { x: x ?? (column - window.column + 0.5) * window.cell, y: y ?? (row - window.row + 0.5) * window.cell };
    this.window = zoomed(model.grid, { ...window, ...sized(model.grid, this.room, cell) }, cell, fixed.x, fixed.y);
    if (x === undefined) this.window = revealed(model.grid, this.window, this.cursor);
    this.changed();
  }

  violation(direction: 1 | -1): void {
    const next = around(this.model.violations, this.cursor, direction);
    if (next === undefined) this.said(t("No violations"));
    else this.to(next);
  }

  extent(direction: 1 | -1): void {
    this.to(extentStep(this.model.map, this.cursor, direction));
  }

  /** To a page number, an address, or the next page of an owner given by name or letter. False: there is none. */
  go(wanted: string): boolean {
    const { model } = this;
    const text = wanted.trim().toLowerCase();
    const owner = model.owners.find((each) => text !== "" && (each.name.toLowerCase() === text || each.letter.toLowerCase() === text));
    let mfn = pageOf(text, model.map.length);
    if (owner !== undefined) {
      const next = model.map.indexOf(owner.byte, this.cursor + 1);
      const first = next >= 0 ? next : model.map.indexOf(owner.byte);
      mfn = first >= 0 ? first : null;
    }
    if (mfn === null) this.said(t("Nothing found for {wanted}. Pages run from 0x0 to 0x{last}.", { wanted, last: (model.map.length - 1).toString(16) }));
    else this.to(mfn);
    return mfn !== null;
  }

  /** The frame under a pixel of the window. */
  at(x: number, y: number): number | null {
    const { window } = this;
    return window === null ? null : frameAt(this.model.grid, window.column + Math.floor(x / window.cell), window.row + Math.floor(y / window.cell));
  }
}
