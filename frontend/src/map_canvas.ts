/** The two canvases of the map: cells below; rings, numbers, selection and cursor above. Each is painted only when what it shows changed. */

import { count, el } from "./dom";
import { writeNumbers, type Digits } from "./map_digits";
import { boxesIn, type Selection } from "./map_select";
import { centre, frameAt, place, type Box, type Room, type Window } from "./map_geometry";
import type { MapModel } from "./map_model";
import type { Plane } from "./map_pyramid";
import { BACKGROUND, dimmed, paint, repaint, stampOf, stampsOf, type Lettering, type Stamps, type Style } from "./map_raster";
import { rings } from "./map_rings";
import { inkOf, lookOf, pixel, type Look } from "./palette";

const RING = 14;
export const NUMBERS_FROM = 24;
const FONT = '"Inter Variable", system-ui, sans-serif';
const KEPT_STAMPS = 24;

/** What the marks are painted with: an overlay's look by mark, or, for a comparison, what changed as it is. */
export type MarkLooks = readonly Look[] | "as-is";
export interface Layer { marks: Plane[]; looks: MarkLooks; version: string }
export interface View {
  model: MapModel; window: Window; style: Style; isolated: number | null; layer: Layer | null;
  cursor: number | null; selection: Selection | null; guestPage: (mfn: number) => string;
}

export class MapCanvas {
  readonly canvas = el("canvas", { class: "map-canvas" });
  readonly overlay = el("canvas", { class: "map-overlay", "aria-hidden": "true" });
  private readonly stamps = new Map<string, Stamps[]>();
  private image: { data: ImageData; pixels: Uint32Array } | null = null;
  private digits: ({ size: number } & Digits) | null = null;
  /** What was painted, without where; and where. */
  private scene = "";
  private at: Window | null = null;
  private painted = "";
  private drawn = "";
  private bare = false;
  private layout = "";

  /** Sizes both canvases to whole device pixels. */
  resize({ width, height }: Room, stage: HTMLElement): void {
    if (this.image?.data.width === width && this.image.data.height === height) return;
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = width;
      canvas.height = height;
      canvas.style.width = `${width / ratio}px`;
      canvas.style.height = `${height / ratio}px`;
    }
    const data = new ImageData(width, height);
    this.image = { data, pixels: new Uint32Array(data.data.buffer) };
    this.painted = this.scene = this.drawn = "";
    // Where the canvas begins does not hang on its size: measured again only in another layout, because measuring costs one.
    const layout = `${innerWidth} ${innerHeight} ${ratio} ${document.documentElement.dataset["theme"] ?? ""}`;
    if (layout === this.layout) return;
    this.layout = layout;
    this.align(stage, ratio);
  }

  /** To a whole device pixel: anything else blurs the cells. */
  private align(stage: HTMLElement, ratio: number): void {
    stage.style.margin = "0";
    const box = this.canvas.getBoundingClientRect();
    const rest = (value: number): number => Math.ceil(value * ratio - 0.001) / ratio - value;
    stage.style.margin = `${rest(box.top + scrollY)}px 0 0 ${rest(box.left + scrollX)}px`;
  }

  paint(view: View): void {
    const { model, window, layer } = view;
    const what = `${model.version} ${model.grid.order} ${window.cell} ${view.style} ${view.isolated} ${layer?.version ?? ""}`;
    const where = `${what} ${window.column} ${window.row}`;
    if (where !== this.painted) {
      this.paintCells(view, what === this.scene ? this.at : null);
      this.painted = where;
      this.scene = what;
      this.at = window;
    }
    const above = `${where} ${view.cursor} ${JSON.stringify(view.selection)} ${window.cell >= NUMBERS_FROM && view.cursor !== null ? view.guestPage(view.cursor) : ""}`;
    if (above === this.drawn) return;
    this.drawn = above;
    this.paintAbove(view);
  }

  /** Fonts that arrive late, another theme: everything again. */
  forget(): void {
    this.stamps.clear();
    this.painted = this.scene = this.drawn = "";
  }

  private paintCells(view: View, before: Window | null): void {
    const context = this.canvas.getContext("2d", { alpha: false });
    if (context === null || this.image === null) return;
    const { model, window, layer, style } = view;
    const per = Math.max(1, 1 / window.cell);
    const background = style === "pattern" ? pixel("#FFFFFF") : BACKGROUND;
    const marks = layer === null ? null : (layer.marks[Math.log2(per)] ?? null);
    const scene = { plane: model.level(per), marks, faces: this.faces(view), background };
    // Numbers lie over the cells, so what is moved there would have to be written again anyway.
    if (before !== null && window.cell < NUMBERS_FROM) repaint(this.image.pixels, scene, model.grid, window, before);
    else paint(this.image.pixels, scene, model.grid, window);
    if (window.cell >= NUMBERS_FROM) this.paintNumbers(view, this.image.pixels);
    context.putImageData(this.image.data, 0, 0);
  }

  private paintNumbers({ model, window, style }: View, pixels: Uint32Array): void {
    const length = (model.map.length - 1).toString(16).length;
    const size = Math.max(7, Math.min(12, Math.floor(window.cell / 4), (window.cell - 3) / (length * 0.6)));
    if (this.digits?.size !== size) this.digits = { size, ...digitsOf(size) };
    const ramps = new Array<Uint32Array | undefined>(256).fill(undefined);
    for (const owner of model.owners) ramps[owner.byte] = rampOf(style === "pattern" ? "#FFFFFF" : lookOf(owner).colour);
    writeNumbers(pixels, model.grid, window, model.map, this.digits, ramps);
  }

  private faces({ model, window, style, isolated, layer }: View): Stamps[] {
    const size = Math.max(1, window.cell);
    const looks = layer?.looks ?? "none";
    const key = `${size} ${style} ${isolated} ${typeof looks === "string" ? looks : looks.map((look) => look.colour + look.letter).join()} ${model.owners.map((owner) => owner.byte + lookOf(owner).className).join()}`;
    const known = this.stamps.get(key);
    if (known !== undefined) return known;
    if (this.stamps.size > KEPT_STAMPS) this.stamps.clear();
    const bright = stampsOf(model.owners, size, lettering, style);
    const dim = isolated === null && layer === null ? bright : dimmed(bright, style);
    const made: Stamps[] = [layer === null && isolated !== null ? dim.map((stamp, byte) => (byte === isolated ? bright[byte] : stamp)) : dim];
    if (looks === "as-is") made.push(bright);
    else if (looks !== "none") for (const look of looks) made.push(new Array<Uint32Array>(256).fill(stampOf(look, size, lettering, style)));
    this.stamps.set(key, made);
    return made;
  }

  private paintAbove(view: View): void {
    const context = this.overlay.getContext("2d");
    if (context === null) return;
    const { model, window } = view;
    const ratio = devicePixelRatio || 1;
    const bare = model.violations.length === 0 && view.selection === null && view.cursor === null && window.cell < NUMBERS_FROM;
    if (bare && this.bare) return;
    this.bare = bare;
    context.clearRect(0, 0, window.width, window.height);
    if (bare) return;
    if (window.cell >= NUMBERS_FROM) this.paintGuests(context, view);
    if (view.selection !== null) this.paintSelection(context, view, boxesIn(model.grid, view.selection), ratio);
    for (const ring of rings(model.grid, window, model.wrong, RING * ratio)) {
      for (const [colour, line] of [["#000000", 6], ["#FFFFFF", 3], ["#D50000", 1.5]] as const) {
        context.strokeStyle = colour;
        context.lineWidth = line * ratio;
        context.beginPath();
        context.arc(...inside(ring, window, 9 * ratio), (RING / 2) * ratio, 0, 2 * Math.PI);
        context.stroke();
      }
      const right = ring.x + 40 * ratio > window.width;
      if (ring.count > 1) label(context, count(ring.count), ring.x + (right ? -11 : 11) * ratio, Math.max(7 * ratio, ring.y), 12 * ratio, right ? "right" : "left");
    }
    if (view.cursor !== null) this.paintCursor(context, model, window, view.cursor);
  }

  /** Guest pages, for the few frames of which they are known. */
  private paintGuests(context: CanvasRenderingContext2D, { model, window, style, guestPage }: View): void {
    const { cell } = window;
    const size = Math.min(11, cell / 4);
    context.font = `600 ${size}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (let row = 0; row * cell < window.height; row++) {
      for (let column = 0; column * cell < window.width; column++) {
        const mfn = frameAt(model.grid, window.column + column, window.row + row);
        const guest = mfn === null ? "" : guestPage(mfn);
        if (guest === "") continue;
        const colour = style === "pattern" ? "#FFFFFF" : lookOf(model.ownerOf(mfn as number) ?? { owner: "", letter: "" }).colour;
        context.fillStyle = colour;
        context.fillRect(column * cell, row * cell, cell - 1, size + 1);
        context.fillStyle = inkOf(colour);
        context.fillText(`g ${guest}`, (column + 0.5) * cell, row * cell + 1, cell - 2);
      }
    }
  }

  /** The squares of a range along the curve have no outlines: they would look like several selections. */
  private paintSelection(context: CanvasRenderingContext2D, { window, style }: View, boxes: Box[], ratio: number): void {
    const outlined = boxes.length <= 3;
    for (const box of boxes) {
      const [x, y] = [(box.left - window.column) * window.cell, (box.top - window.row) * window.cell];
      const [width, height] = [(box.right - box.left + 1) * window.cell, (box.bottom - box.top + 1) * window.cell];
      context.fillStyle = style === "pattern" ? "rgb(0 64 160 / 0.3)" : `rgb(255 255 255 / ${outlined ? 0.22 : 0.35})`;
      context.fillRect(x, y, width, height);
      if (!outlined) continue;
      context.lineWidth = ratio;
      for (const [colour, grow] of [["#000000", 1.5], ["#FFFFFF", 0.5]] as const) {
        context.strokeStyle = colour;
        context.strokeRect(x - grow * ratio, y - grow * ratio, width + 2 * grow * ratio, height + 2 * grow * ratio);
      }
    }
  }

  private paintCursor(context: CanvasRenderingContext2D, model: MapModel, window: Window, mfn: number): void {
    const { column, row } = place(model.grid, mfn);
    const size = Math.max(window.cell, 7);
    const at = centre(model.grid, window, mfn);
    const x = window.cell >= 7 ? (column - window.column) * window.cell : at.x - size / 2;
    const y = window.cell >= 7 ? (row - window.row) * window.cell : at.y - size / 2;
    for (const [colour, grow] of [["#000000", 2.5], ["#FFFFFF", 1]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(x - grow, y - grow, size + 2 * grow, size + 2 * grow);
    }
  }
}

/** A ring at the edge is moved in until it is whole. */
const inside = ({ x, y }: { x: number; y: number }, { width, height }: Room, rest: number): [number, number] =>
  [Math.max(rest, Math.min(width - rest, x)), Math.max(rest, Math.min(height - rest, y))];

function label(context: CanvasRenderingContext2D, text: string, x: number, y: number, size: number, align: CanvasTextAlign): void {
  context.font = `700 ${size}px ${FONT}`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineWidth = size / 3;
  context.strokeStyle = "#000000";
  context.strokeText(text, x, y);
  context.fillStyle = "#FFFFFF";
  context.fillText(text, x, y);
}

function digitsOf(size: number): Digits {
  const [width, height] = [Math.max(4, Math.round(size * 0.62)), Math.ceil(size)];
  const context = new OffscreenCanvas(width * 16, height).getContext("2d", { willReadFrequently: true });
  const ink = new Uint8Array(width * 16 * height);
  if (context === null) return { width, height, ink };
  context.font = `600 ${size}px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  for (let i = 0; i < 16; i++) context.fillText(i.toString(16), (i + 0.5) * width, height - 1.5, width);
  context.getImageData(0, 0, width * 16, height).data.forEach((value, i) => {
    if (i % 4 === 3) ink[i >> 2] = value >> 4;
  });
  return { width, height, ink };
}

/** Sixteen steps from a colour to its ink. */
function rampOf(colour: string): Uint32Array {
  const [from, to] = [pixel(colour), pixel(inkOf(colour))];
  const mix = (shift: number, part: number): number => Math.round(((from >> shift) & 255) * (1 - part) + ((to >> shift) & 255) * part) << shift;
  return Uint32Array.from({ length: 16 }, (_, i) => (0xff000000 | mix(16, i / 15) | mix(8, i / 15) | mix(0, i / 15)) >>> 0);
}

const letters = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

/** Draws a VM's letter into a stamp, with a rim of the base colour so that no texture swallows it. */
const lettering: Lettering = (stamp, size, look) => {
  const context = letters;
  if (context === null) return;
  if (context.canvas.width !== size) context.canvas.width = context.canvas.height = size;
  context.putImageData(new ImageData(new Uint8ClampedArray(stamp.slice().buffer), size, size), 0, 0);
  const heavy = document.documentElement.dataset["theme"] === "projector";
  const height = Math.round(size * (size >= NUMBERS_FROM ? 0.42 : heavy ? 0.95 : 0.8));
  context.font = `${heavy ? 900 : 700} ${height}px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const y = size >= NUMBERS_FROM ? size * 0.47 : size / 2;
  context.strokeStyle = look.colour;
  context.lineWidth = Math.max(2, size / 6);
  context.strokeText(look.letter, size / 2, y);
  context.fillStyle = inkOf(look.colour);
  context.fillText(look.letter, size / 2, y);
  stamp.set(new Uint32Array(context.getImageData(0, 0, size, size).data.buffer));
};
