/** The whole map in a corner: where the window is, where violations are. A click moves the window there; buttons do the same. */

import { el } from "./dom";
import type { Window } from "./map_geometry";
import type { MapModel } from "./map_model";
import { lookOf, pixel } from "./palette";
import { t } from "./words";

const SIDE = 128;
const RED = pixel("#FF3B30");

export class Minimap {
  private readonly canvas = el("canvas", { class: "map-mini", width: String(SIDE), height: String(SIDE), role: "img", "aria-label": t("The whole map with the part that is shown; the buttons Pan move that part") });
  readonly element = el("figure", { class: "map-mini-figure" }, this.canvas, el("figcaption", { class: "muted" }, t("Whole host. Click to look there.")));
  private image: ImageData | null = null;
  private painted = "";
  private filled = "";

  /** `move` is told the cell that shall stand in the middle. */
  constructor(private readonly move: (column: number, row: number) => void) {
    const go = (event: PointerEvent): void => {
      if (event.buttons !== 1) return;
      const box = this.canvas.getBoundingClientRect();
      this.move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    this.canvas.addEventListener("pointerdown", go);
    this.canvas.addEventListener("pointermove", go);
  }

  show(model: MapModel, window: Window): void {
    const key = `${model.version} ${model.grid.order} ${window.cell} ${window.column} ${window.row} ${window.width} ${window.height}`;
    if (key === this.painted) return;
    this.painted = key;
    const { grid } = model;
    let per = 1;
    while (grid.columns / per > SIDE || grid.rows / per > SIDE) per *= 2;
    const [width, height] = [Math.ceil(grid.columns / per), Math.ceil(grid.rows / per)];
    if (this.image?.width !== width || this.image.height !== height) {
      [this.canvas.width, this.canvas.height] = [width, height];
      this.image = new ImageData(width, height);
    }
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    const still = `${model.version} ${grid.order} ${model.owners.map((owner) => lookOf(owner).className).join()}`;
    if (still !== this.filled) {
      this.filled = still;
      this.fill(model, this.image, per);
    }
    context.putImageData(this.image, 0, 0);
    const scale = 1 / per;
    const [w, h] = [Math.max(3, (window.width / window.cell) * scale), Math.max(3, (window.height / window.cell) * scale)];
    for (const [colour, grow] of [["#000000", 1.5], ["#FFFFFF", 0.5]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = 1;
      context.strokeRect(Math.min(window.column * scale, width - w) - grow, Math.min(window.row * scale, height - h) - grow, w + 2 * grow, h + 2 * grow);
    }
  }

  private fill(model: MapModel, image: ImageData, per: number): void {
    const { width, height } = image;
    const colours = new Uint32Array(256).fill(pixel("#000000"));
    for (const owner of model.owners) colours[owner.byte] = pixel(lookOf(owner).colour);
    const pixels = new Uint32Array(image.data.buffer);
    const [plane, wrong] = [model.level(per), model.wrong.levels[Math.log2(per)]];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) pixels[y * width + x] = colours[plane.bytes[y * plane.width + x] as number] as number;
    if (wrong === undefined || model.violations.length === 0) return;
    // Three pixels square, so that one page is seen.
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if ((wrong.bytes[y * wrong.width + x] as number) === 0) continue;
        for (let i = Math.max(0, y - 1); i <= Math.min(height - 1, y + 1); i++) pixels.fill(RED, i * width + Math.max(0, x - 1), i * width + Math.min(width, x + 2));
      }
    }
  }
}
