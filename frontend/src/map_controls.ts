/** What moves the map: toolbar, keys, pointer, wheel. Every act has a button, so that neither dragging nor single keys are ever the only way. */

import { button, el } from "./dom";
import type { Box, Window } from "./map_geometry";
import { OVERLAYS } from "./map_marks";
import type { Overlay } from "./map_history";
import type { MapMoves } from "./map_moves";
import { t } from "./words";

/** What the view does beyond moving. */
export interface Acts {
  redraw(): void; order(): void; mark(): void; compare(): void; pattern(): void; table(): void;
  isolateUnderCursor(): void; overlay(overlay: Overlay): void; select(box: Box | null): void;
}

export class Controls {
  readonly toolbar: HTMLElement;
  private readonly goTo = el("input", { class: "mono", size: "10", "aria-label": t("Page, address or owner"), placeholder: t("page or owner") });
  private readonly overlay = el("select", {}, ...Object.entries(OVERLAYS).map(([value, { name }]) => el("option", { value }, name)));
  private readonly toggles: Record<"order" | "compare" | "pattern" | "keys" | "table", HTMLButtonElement>;
  private readonly markButton: HTMLButtonElement;
  private drag: { x: number; y: number; window: Window; box: boolean; column: number; row: number } | null = null;

  constructor(private readonly stage: HTMLElement, private readonly moves: MapMoves, private readonly acts: Acts, problems: HTMLElement, menu: HTMLElement) {
    const toggle = (name: string, title: string, press: () => void): HTMLButtonElement => {
      const made = button(name, press);
      made.title = title;
      made.setAttribute("aria-pressed", "false");
      return made;
    };
    this.toggles = {
      order: toggle(t("Hilbert order"), t("Lay the pages along the Hilbert curve: ranges of addresses become blobs"), () => acts.order()),
      compare: toggle(t("Compare with A"), t("Show what differs from moment A (X)"), () => acts.compare()),
      pattern: toggle(t("Black on white"), t("Patterns instead of colours, as in print"), () => acts.pattern()),
      keys: toggle(t("Keys"), t("Single-key commands on the map: on or off"), () => this.show("keys", !this.keysOn())),
      table: toggle(t("Table"), t("The same as tables"), () => acts.table()),
    };
    this.show("keys", true);
    this.markButton = button(t("Mark A"), () => acts.mark());
    this.markButton.title = t("Keep this moment as A (M)");
    this.overlay.addEventListener("change", () => acts.overlay(this.overlay.value as Overlay));
    this.toolbar = this.buildToolbar(problems, menu);
    this.listen();
  }

  show(which: keyof Controls["toggles"], pressed: boolean): void {
    this.toggles[which].setAttribute("aria-pressed", String(pressed));
  }

  marked(label: string): void {
    this.markButton.textContent = label === "" ? t("Mark A") : `A: ${label}`;
    this.markButton.setAttribute("aria-label", label === "" ? t("Mark A") : t("Mark A anew, A is {label}", { label }));
  }

  private buildToolbar(problems: HTMLElement, menu: HTMLElement): HTMLElement {
    const { moves } = this;
    const pan = (way: string, name: string, x: number, y: number): HTMLButtonElement => button(name, () => moves.pan(x, y), `arrow-${way}`);
    const go = el("form", { class: "inline" }, this.goTo, el("button", { class: "button button-quiet" }, t("Go")));
    go.addEventListener("submit", (event) => {
      event.preventDefault();
      const found = moves.go(this.goTo.value);
      this.goTo.setAttribute("aria-invalid", String(!found));
      if (found) this.stage.focus({ preventScroll: true });
    });
    const extent = (name: string, sign: string, direction: 1 | -1): HTMLButtonElement => {
      const made = button(name, () => moves.extent(direction));
      made.textContent = sign;
      return made;
    };
    const { order, compare, pattern, keys, table } = this.toggles;
    return el(
      "div", { class: "map-toolbar", role: "toolbar", "aria-label": t("Map") },
      button(t("Zoom out"), () => moves.zoom(-1), "minus"), button(t("Zoom in"), () => moves.zoom(1), "plus"), button(t("Fit"), () => moves.fitAll(), "maximize"),
      pan("left", t("Pan left"), -0.5, 0), pan("right", t("Pan right"), 0.5, 0), pan("up", t("Pan up"), 0, -0.5), pan("down", t("Pan down"), 0, 0.5),
      extent(t("Previous extent"), "[", -1), extent(t("Next extent"), "]", 1),
      go, button(t("Previous violation"), () => moves.violation(-1), "step-back"), problems,
      button(t("Next violation"), () => moves.violation(1), "step-forward"),
      order, el("label", { class: "map-choice" }, t("Overlay"), " ", this.overlay), this.markButton, compare, pattern, keys, table, menu,
    );
  }

  private listen(): void {
    const { stage, moves } = this;
    stage.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) stage.addEventListener(name, () => this.acts.redraw());
    stage.addEventListener("pointerdown", (event) => this.pressed(event));
    stage.addEventListener("pointermove", (event) => this.pointed(event));
    stage.addEventListener("pointerup", () => (this.drag = null));
    stage.addEventListener("pointerleave", () => {
      moves.hover = this.drag = null;
      this.acts.redraw();
    });
    // Only a focused map takes the wheel, so that it never traps a reader who scrolls past.
    stage.addEventListener("wheel", (event) => {
      if (document.activeElement !== stage && !event.ctrlKey) return;
      event.preventDefault();
      const [x, y] = this.pixel(event);
      moves.zoom(event.deltaY < 0 ? 1 : -1, x, y);
    }, { passive: false });
  }

  private pressed(event: PointerEvent): void {
    this.stage.focus({ preventScroll: true });
    const { window } = this.moves;
    if (window === null) return;
    const [x, y] = this.pixel(event);
    const [column, row] = [window.column + Math.floor(x / window.cell), window.row + Math.floor(y / window.cell)];
    this.drag = { x: event.clientX, y: event.clientY, window, box: event.shiftKey, column, row };
    this.moves.to(this.moves.at(x, y));
  }

  private pointed(event: PointerEvent): void {
    const [x, y] = this.pixel(event);
    const { drag, moves } = this;
    if (drag !== null && event.buttons === 1) {
      const ratio = devicePixelRatio || 1;
      if (drag.box) this.acts.select(this.boxTo(x, y));
      else moves.drag(drag.window, (event.clientX - drag.x) * ratio, (event.clientY - drag.y) * ratio);
    }
    moves.hover = moves.at(x, y);
    this.acts.redraw();
  }

  /** The rectangle from where the drag began; where a pixel holds several frames, all of them. */
  private boxTo(x: number, y: number): Box | null {
    const { window, model } = this.moves;
    if (window === null || this.drag === null) return null;
    const per = Math.max(1, 1 / window.cell);
    const [column, row] = [window.column + Math.floor(x / window.cell), window.row + Math.floor(y / window.cell)];
    const inside = (at: number, size: number): number => Math.min(size - 1, Math.max(0, at));
    const { columns, rows } = model.grid;
    return {
      left: inside(Math.min(column, this.drag.column), columns), top: inside(Math.min(row, this.drag.row), rows),
      right: inside(Math.max(column, this.drag.column) + per - 1, columns), bottom: inside(Math.max(row, this.drag.row) + per - 1, rows),
    };
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { moves, acts } = this;
    const arrows: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    const letters: Record<string, () => void> = {
      "+": () => moves.zoom(1), "=": () => moves.zoom(1), w: () => moves.zoom(1), "-": () => moves.zoom(-1), s: () => moves.zoom(-1),
      a: () => moves.pan(-0.5, 0), d: () => moves.pan(0.5, 0), "0": () => moves.fitAll(), g: () => this.goTo.focus(),
      n: () => moves.violation(1), p: () => moves.violation(-1), "[": () => moves.extent(-1), "]": () => moves.extent(1),
      m: () => acts.mark(), x: () => acts.compare(), i: () => acts.isolateUnderCursor(),
    };
    const letter = this.keysOn() ? letters[event.key.toLowerCase()] : undefined;
    if (arrow !== undefined) {
      if (event.shiftKey) moves.pan(arrow[0] / 2, arrow[1] / 2);
      else moves.step(arrow[0], arrow[1]);
    } else if (letter !== undefined) letter();
    else return;
    event.preventDefault();
  }

  private keysOn(): boolean {
    return this.toggles.keys.getAttribute("aria-pressed") === "true";
  }

  private pixel(event: MouseEvent): [number, number] {
    const box = this.stage.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }
}
