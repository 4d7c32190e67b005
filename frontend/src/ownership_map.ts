/** The ownership map: one cell is one 4 KiB machine page. Canvas, cursor, rings round violations, legend and table twin. */

import { button, count, el, hex, Voice } from "./dom";
import { extentStep, fit, frameAt, gridOf, moved, nextCell, place, revealed, rings, zoomed, type Grid, type Window } from "./map_geometry";
import { paint, stampsOf, type Lettering, type Stamp } from "./map_raster";
import { CursorPanel, frameInWords, Legend, TableTwin } from "./map_side";
import { CANVAS, inkOf, lookOf } from "./palette";
import type { MapState } from "./store";

const RING = 14;
const NUMBERS_FROM = 24;
const FONT = '"Inter Variable", system-ui, sans-serif';

export class OwnershipMap {
  private readonly canvas = el("canvas", { class: "map-canvas" });
  private readonly overlay = el("canvas", { class: "map-overlay", "aria-hidden": "true" });
  private readonly stage: HTMLElement;
  private readonly room = el("div", { class: "map-room" });
  private readonly panel = new CursorPanel();
  private readonly legend = new Legend();
  private readonly twin: TableTwin;
  private readonly voice = new Voice();
  private readonly problems = el("output", { class: "status status-ok" });
  private readonly goTo = el("input", { class: "mono", size: "10", "aria-label": "Page, address or owner", placeholder: "page or owner" });
  private readonly keys: HTMLButtonElement;
  private readonly tableButton: HTMLButtonElement;

  private state: MapState | null = null;
  private grid: Grid = gridOf(1);
  private window: Window | null = null;
  private base = 1;
  private cursor = 0;
  private hover: number | null = null;
  private stamps: { key: string; list: (Stamp | undefined)[] } = { key: "", list: [] };
  private image: { data: ImageData; pixels: Uint32Array } | null = null;
  private drag: { x: number; y: number; window: Window } | null = null;

  constructor(private readonly root: HTMLElement, private readonly redraw: () => void) {
    const id = `map-table-${root.id || Math.random().toString(36).slice(2)}`;
    this.twin = new TableTwin(id);
    this.stage = el("div", {
      class: "map-stage", tabindex: "0", role: "application", "aria-roledescription": "memory map", "aria-details": id,
      "aria-label": "Ownership map. Arrow keys move the cursor, plus and minus zoom, N and P go to violations.",
    }, this.canvas, this.overlay);
    this.room.append(this.stage);
    this.keys = button("Keys", () => this.keys.setAttribute("aria-pressed", String(!this.keysOn())));
    this.keys.setAttribute("aria-pressed", "true");
    this.keys.title = "Single-key commands on the map: on or off";
    this.tableButton = button("Table", () => this.toggleTable());
    this.tableButton.setAttribute("aria-pressed", "false");
    root.append(
      this.toolbar(),
      el("div", { class: "map-body" }, this.room, el("div", { class: "map-side" }, this.panel.element, this.legend.element)),
      this.twin.element, this.voice.element,
    );
    this.listen();
  }

  draw(state: MapState): void {
    const before = this.state?.violations.length ?? 0;
    if (this.state === null || this.state.map.length !== state.map.length) {
      this.grid = gridOf(state.map.length);
      this.window = null;
    }
    this.state = state;
    const window = this.window ?? this.measure();
    this.paintCells(state, window);
    this.paintOverlay(state, window);
    this.legend.show(state);
    this.panel.show(state, Math.min(this.hover ?? this.cursor, state.map.length - 1));
    this.twin.show(state);
    this.showProblems(state.violations.length, before);
    Object.assign(this.root.dataset, {
      columns: String(this.grid.columns), frames: String(state.map.length), cell: String(this.base), zoom: String(window.cell / this.base),
      column: String(window.column), row: String(window.row), violations: String(state.violations.length),
    });
  }

  // ---- painting ----

  /** Sizes both canvases to whole device pixels at a whole position: anything else blurs the cells. */
  private measure(): Window {
    const ratio = devicePixelRatio || 1;
    const height = Math.max(240, Math.min(innerHeight - 100, 900));
    const window = fit(this.grid, { width: Math.max(64, this.room.clientWidth) * ratio, height: height * ratio });
    this.base = window.cell;
    this.stage.style.margin = "0";
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = window.width;
      canvas.height = window.height;
      canvas.style.width = `${window.width / ratio}px`;
      canvas.style.height = `${window.height / ratio}px`;
    }
    const box = this.canvas.getBoundingClientRect();
    const rest = (value: number): number => Math.ceil(value * ratio - 0.001) / ratio - value;
    this.stage.style.margin = `${rest(box.top + scrollY)}px 0 0 ${rest(box.left + scrollX)}px`;
    const data = new ImageData(window.width, window.height);
    this.image = { data, pixels: new Uint32Array(data.data.buffer) };
    this.window = window;
    return window;
  }

  private paintCells(state: MapState, window: Window): void {
    const context = this.canvas.getContext("2d", { alpha: false });
    if (context === null || this.image === null) return;
    const key = `${window.cell} ${state.owners.map((owner) => `${owner.byte}${owner.owner}${owner.letter}`).join()}`;
    if (this.stamps.key !== key) this.stamps = { key, list: stampsOf(state.owners, window.cell, lettering) };
    paint(this.image.pixels, state.map, this.grid, window, this.stamps.list);
    context.putImageData(this.image.data, 0, 0);
  }

  private paintOverlay(state: MapState, window: Window): void {
    const context = this.overlay.getContext("2d");
    if (context === null) return;
    context.clearRect(0, 0, window.width, window.height);
    if (window.cell >= NUMBERS_FROM) this.paintNumbers(context, state, window);
    const ratio = devicePixelRatio || 1;
    for (const ring of rings(this.grid, window, state.violations, RING * ratio)) {
      for (const [colour, line] of [["#000000", 6], ["#FFFFFF", 3], ["#D50000", 1.5]] as const) {
        context.strokeStyle = colour;
        context.lineWidth = line * ratio;
        context.beginPath();
        context.arc(ring.x, ring.y, (RING / 2) * ratio, 0, 2 * Math.PI);
        context.stroke();
      }
      if (ring.count > 1) this.label(context, String(ring.count), ring.x + 16 * ratio, ring.y, 12 * ratio);
    }
    if (document.activeElement === this.stage) this.paintCursor(context, window);
  }

  private paintNumbers(context: CanvasRenderingContext2D, state: MapState, window: Window): void {
    const colours = new Map(state.owners.map((owner) => [owner.byte, lookOf(owner).colour]));
    context.font = `600 ${Math.max(8, Math.min(12, window.cell / 4))}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.lineWidth = 2.5;
    for (let row = 0; row * window.cell < window.height; row++) {
      for (let column = 0; column * window.cell < window.width; column++) {
        const mfn = frameAt(this.grid, window.column + column, window.row + row);
        if (mfn === null) continue;
        const colour = colours.get(state.map[mfn] as number) ?? CANVAS;
        context.strokeStyle = colour;
        context.fillStyle = inkOf(colour);
        const at = [mfn.toString(16), (column + 0.5) * window.cell, (row + 1) * window.cell - 2] as const;
        context.strokeText(...at);
        context.fillText(...at);
      }
    }
  }

  private paintCursor(context: CanvasRenderingContext2D, window: Window): void {
    const { column, row } = place(this.grid, this.cursor);
    const size = Math.max(window.cell, 7);
    const rest = (size - window.cell) / 2;
    const x = (column - window.column) * window.cell - rest;
    const y = (row - window.row) * window.cell - rest;
    for (const [colour, grow] of [["#000000", 2.5], ["#FFFFFF", 1]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(x - grow, y - grow, size + 2 * grow, size + 2 * grow);
    }
  }

  private label(context: CanvasRenderingContext2D, text: string, x: number, y: number, size: number): void {
    context.font = `700 ${size}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = size / 3;
    context.strokeStyle = "#000000";
    context.strokeText(text, x, y);
    context.fillStyle = "#FFFFFF";
    context.fillText(text, x, y);
  }

  private showProblems(now: number, before: number): void {
    const words = now === 0 ? "No violations" : now === 1 ? "1 violation" : `${count(now)} violations`;
    if (this.problems.textContent === words) return;
    this.problems.textContent = words;
    this.problems.className = now === 0 ? "status status-ok" : "status status-violation";
    document.title = (now === 0 ? "" : `(${words}) `) + document.title.replace(/^\(\d[\d,]* violations?\) /, "");
    if (now !== before) this.voice.say(words);
  }

  // ---- moving ----

  private toolbar(): HTMLElement {
    const pan = (name: string, icon: string, x: number, y: number): HTMLButtonElement => button(`Pan ${name}`, () => this.pan(x, y), icon);
    const go = el("form", { class: "inline" }, this.goTo, el("button", { class: "button button-quiet" }, "Go"));
    go.addEventListener("submit", (event) => {
      event.preventDefault();
      this.go(this.goTo.value);
    });
    return el(
      "div", { class: "map-toolbar", role: "toolbar", "aria-label": "Map" },
      button("Zoom out", () => this.zoom(-1), "minus"), button("Zoom in", () => this.zoom(1), "plus"), button("Fit", () => this.fitAll(), "maximize"),
      pan("left", "arrow-left", -0.5, 0), pan("right", "arrow-right", 0.5, 0), pan("up", "arrow-up", 0, -0.5), pan("down", "arrow-down", 0, 0.5),
      go, button("Previous violation", () => this.violation(-1), "step-back"), this.problems,
      button("Next violation", () => this.violation(1), "step-forward"), this.keys, this.tableButton,
    );
  }

  private listen(): void {
    this.stage.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) this.stage.addEventListener(name, () => this.redraw());
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.focus({ preventScroll: true });
      if (this.window !== null) this.drag = { x: event.clientX, y: event.clientY, window: this.window };
      this.moveCursor(this.at(event));
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (this.drag !== null && event.buttons === 1) this.dragTo(event);
      this.hover = this.at(event);
      this.redraw();
    });
    this.stage.addEventListener("pointerleave", () => {
      this.hover = this.drag = null;
      this.redraw();
    });
    // Only a focused map takes the wheel, so that it never traps a reader who scrolls past.
    this.stage.addEventListener("wheel", (event) => {
      if (document.activeElement !== this.stage && !event.ctrlKey) return;
      event.preventDefault();
      const [x, y] = this.pixel(event);
      this.zoom(event.deltaY < 0 ? 1 : -1, x, y);
    }, { passive: false });
    let width = 0;
    new ResizeObserver(() => {
      if (this.room.clientWidth === width) return;
      width = this.room.clientWidth;
      this.window = null;
      this.redraw();
    }).observe(this.room);
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    const letters: Record<string, () => void> = {
      "+": () => this.zoom(1), "=": () => this.zoom(1), w: () => this.zoom(1), "-": () => this.zoom(-1), s: () => this.zoom(-1),
      a: () => this.pan(-0.5, 0), d: () => this.pan(0.5, 0), "0": () => this.fitAll(), g: () => this.goTo.focus(),
      n: () => this.violation(1), p: () => this.violation(-1), "[": () => this.extent(-1), "]": () => this.extent(1),
    };
    const letter = this.keysOn() ? letters[event.key.toLowerCase()] : undefined;
    if (arrow !== undefined) {
      if (event.shiftKey) this.pan(arrow[0] / 2, arrow[1] / 2);
      else this.step(arrow[0], arrow[1]);
    } else if (letter !== undefined) letter();
    else return;
    event.preventDefault();
  }

  private keysOn(): boolean {
    return this.keys.getAttribute("aria-pressed") === "true";
  }

  private step(x: number, y: number): void {
    const { column, row } = place(this.grid, this.cursor);
    this.moveCursor(frameAt(this.grid, column + x, row + y));
  }

  private moveCursor(mfn: number | null): void {
    if (mfn === null || this.state === null || this.window === null) return;
    this.cursor = mfn;
    this.hover = null;
    this.window = revealed(this.grid, this.window, mfn);
    this.voice.say(frameInWords(this.state, mfn));
    this.redraw();
  }

  private pan(x: number, y: number): void {
    const window = this.window;
    if (window === null) return;
    const by = (part: number, size: number): number => Math.sign(part) * Math.max(1, Math.round((Math.abs(part) * size) / window.cell));
    this.window = moved(this.grid, window, window.column + by(x, window.width), window.row + by(y, window.height));
    this.redraw();
  }

  private dragTo(event: PointerEvent): void {
    if (this.drag === null) return;
    const { x, y, window } = this.drag;
    const by = (pixels: number): number => Math.round((pixels * (devicePixelRatio || 1)) / window.cell);
    this.window = moved(this.grid, window, window.column - by(event.clientX - x), window.row - by(event.clientY - y));
  }

  private zoom(direction: 1 | -1, x?: number, y?: number): void {
    const window = this.window;
    if (window === null) return;
    const { column, row } = place(this.grid, this.cursor);
    const middle = (at: number): number => (at + 0.5) * window.cell;
    const cell = nextCell(this.base, window.cell, direction);
    if (cell !== window.cell) this.window = zoomed(this.grid, window, cell, x ?? middle(column - window.column), y ?? middle(row - window.row));
    this.redraw();
  }

  private fitAll(): void {
    this.window = null;
    this.redraw();
  }

  private violation(direction: 1 | -1): void {
    const all = [...(this.state?.violations ?? [])].sort((a, b) => a - b);
    const next = direction > 0 ? all.find((mfn) => mfn > this.cursor) ?? all[0] : all.findLast((mfn) => mfn < this.cursor) ?? all.at(-1);
    if (next === undefined) this.voice.say("No violations");
    else this.moveCursor(next);
  }

  private extent(direction: 1 | -1): void {
    if (this.state !== null) this.moveCursor(extentStep(this.state.map, this.cursor, direction));
  }

  /** A page number (decimal or hex), an address (0x… beyond the last page, or ending in 000), or an owner's name or letter. */
  private go(wanted: string): void {
    const state = this.state;
    if (state === null) return;
    const text = wanted.trim().toLowerCase();
    const owner = state.owners.find((each) => text !== "" && (each.name.toLowerCase() === text || each.letter.toLowerCase() === text));
    const number = /^(0x[0-9a-f]+|\d+)$/.test(text) ? Number(text) : NaN;
    const mfn = owner !== undefined ? state.map.indexOf(owner.byte) : number < state.map.length ? number : Math.floor(number / 4096);
    const found = mfn >= 0 && mfn < state.map.length;
    this.goTo.setAttribute("aria-invalid", String(!found));
    if (!found) return this.voice.say(`Nothing found for ${wanted}. Pages run from 0x0 to ${hex(state.map.length - 1)}.`);
    this.stage.focus({ preventScroll: true });
    this.moveCursor(mfn);
  }

  private toggleTable(): void {
    const shown = this.twin.element.hidden;
    this.twin.element.hidden = !shown;
    this.tableButton.setAttribute("aria-pressed", String(shown));
    this.redraw();
  }

  private pixel(event: MouseEvent): [number, number] {
    const box = this.canvas.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  private at(event: MouseEvent): number | null {
    const window = this.window;
    if (window === null) return null;
    const [x, y] = this.pixel(event);
    return frameAt(this.grid, window.column + Math.floor(x / window.cell), window.row + Math.floor(y / window.cell));
  }
}

/** Draws a VM's letter into a stamp, with a rim of the base colour so that no texture swallows it. */
const lettering: Lettering = (stamp, size, look) => {
  const context = new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true });
  if (context === null) return;
  context.putImageData(new ImageData(new Uint8ClampedArray(stamp.slice().buffer), size, size), 0, 0);
  const height = Math.round(size * (size >= NUMBERS_FROM ? 0.55 : 0.8));
  context.font = `700 ${height}px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const y = size >= NUMBERS_FROM ? size * 0.38 : size / 2;
  context.strokeStyle = look.colour;
  context.lineWidth = Math.max(2, size / 6);
  context.strokeText(look.letter, size / 2, y);
  context.fillStyle = inkOf(look.colour);
  context.fillText(look.letter, size / 2, y);
  stamp.set(new Uint32Array(context.getImageData(0, 0, size, size).data.buffer));
};
