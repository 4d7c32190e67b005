/** The ownership map: one cell is one 4 KiB machine page. Joins model, canvases, controls and what stands beside them in words. */

import { count, el, hex, Voice } from "./dom";
import { MapCanvas, type View } from "./map_canvas";
import { Controls } from "./map_controls";
import { Details } from "./map_details";
import type { Overlay } from "./map_history";
import { ENDED, Layers } from "./map_layers";
import { Legend } from "./map_legend";
import { Minimap } from "./map_minimap";
import { MapModel } from "./map_model";
import { MapMoves } from "./map_moves";
import { ComparePanel, HistogramPanel, OverlayPanel, SelectPanel } from "./map_panels";
import { mapMenu } from "./map_picture";
import type { Style } from "./map_raster";
import { pageOf, type Selection } from "./map_select";
import { CursorPanel, frameInWords } from "./map_side";
import { TableTwin } from "./map_table";
import { OVERLAYS } from "./map_marks";
import type { MapState } from "./store";
import { opNumber, t, tn } from "./words";

/** Of the main thread, at a time, for what is counted ahead. */
const SLICE_MS = 8;
const forced = matchMedia("(forced-colors: active)");

export class OwnershipMap {
  private readonly model = new MapModel();
  private readonly layers = new Layers(this.model, (on) => this.controls.show("compare", on));
  private readonly moves: MapMoves;
  private readonly surface = new MapCanvas();
  private readonly controls: Controls;
  private readonly stage: HTMLElement;
  private readonly room = el("div", { class: "map-room" });
  private readonly details: Details;
  private readonly panel = new CursorPanel();
  private readonly legend: Legend;
  private readonly minimap: Minimap;
  private readonly layerPanel = new OverlayPanel();
  private readonly comparePanel = new ComparePanel();
  private readonly selectPanel: SelectPanel;
  private readonly histogram: HistogramPanel;
  private readonly twin: TableTwin;
  private readonly voice = new Voice();
  private readonly problems = el("output", { class: "status status-ok" });
  private readonly inTitle = el("span", { class: "status status-violation map-title-count", hidden: "" });

  private state: MapState | null = null;
  private isolated: number | null = null;
  private selection: Selection | null = null;
  private linked = new URL(location.href).searchParams.get("pages");
  private patterned = false;
  private fresh = true;
  /** Of the room, in CSS pixels. */
  private width = 0;
  private preparing = false;
  private printing = false;
  /** A moment shown instead of what comes in; null: the present. */
  private b: { state: MapState; label: string } | null = null;

  constructor(private readonly root: HTMLElement, private readonly redraw: () => void) {
    const id = `map-table-${root.id || Math.random().toString(36).slice(2)}`;
    this.moves = new MapMoves(this.model, redraw, (what) => this.voice.say(typeof what === "string" ? what : frameInWords(this.model, what)));
    this.details = new Details(root, redraw);
    this.legend = new Legend((byte) => this.isolate(byte), () => {
      this.surface.forget();
      redraw();
    });
    this.minimap = new Minimap((x, y) => this.moves.centre(x, y));
    this.selectPanel = new SelectPanel(root, () => this.model, () => this.selection, (selection) => this.select(selection));
    this.histogram = new HistogramPanel(redraw);
    this.twin = new TableTwin(id, redraw);
    const { canvas, overlay } = this.surface;
    this.stage = el("div", {
      class: "map-stage", tabindex: "0", role: "application", "aria-roledescription": t("memory map"), "aria-details": id,
      "aria-label": t("Ownership map. Arrow keys move the cursor, plus and minus zoom, N and P go to violations."),
    }, canvas, overlay);
    this.room.append(this.stage);
    const menu = mapMenu({ root, model: this.model, state: () => this.state, canvases: [canvas, overlay], words: () => this.pictureWords() });
    this.controls = new Controls(this.stage, this.moves, {
      redraw, order: () => this.toggleOrder(), mark: () => this.mark(), compare: () => this.compare(), pattern: () => this.togglePattern(), table: () => this.toggleTable(),
      isolateUnderCursor: () => this.isolate(this.model.map[this.moves.cursor] as number),
      overlay: (wanted) => this.setOverlay(wanted), select: (box) => this.select(box),
    }, this.problems, menu);
    root.querySelector("h2")?.append(" ", this.inTitle);
    root.append(
      this.controls.toolbar,
      el("div", { class: "map-body" }, this.room,
        el("div", { class: "map-side" }, this.minimap.element, this.panel.element, this.layerPanel.element, this.legend.element),
        el("div", { class: "map-under" }, this.comparePanel.element, this.selectPanel.element, this.histogram.element)),
      this.twin.element, this.voice.element,
    );
    this.listen();
  }

  draw(given: MapState): void {
    const state = this.b?.state ?? given;
    this.follow(state);
    this.selectLinked(state.map.length);
    const window = this.moves.settle(this.measureRoom());
    this.surface.resize(window, this.stage);
    const layer = this.layers.layer();
    const focused = document.activeElement === this.stage;
    const view: View = {
      model: this.model, window, style: this.style(), isolated: this.isolated, layer, cursor: focused ? this.moves.cursor : null,
      selection: this.selection, guestPage: (mfn) => this.details.guestPage(mfn),
    };
    this.surface.paint(view);
    this.prepare();
    // A new map stands on the screen before anything else is counted for it.
    if (!this.fresh) this.minimap.show(this.model, window);
    this.words(state);
    this.tell({
      columns: this.model.grid.columns, pages: state.map.length, cell: window.cell, base: this.moves.base, zoom: window.cell / this.moves.base, column: window.column, row: window.row,
      order: this.model.grid.order, overlay: this.layers.overlay, violations: this.model.violations.length, isolated: this.isolated ?? "",
    });
  }

  /** What other zooms show is counted ahead in short slices, so that no zoom waits for it. */
  private prepare(): void {
    const slice = (ms: number): void => {
      this.preparing = !this.model.prepare(ms);
      if (this.preparing) return void setTimeout(() => slice(SLICE_MS));
      this.fresh = false;
      if (ms > 0) this.redraw();
    };
    if (!this.preparing) slice(0);
  }

  /** For tests and for other parts of the page: what is shown, as data-* attributes of the root. */
  private tell(facts: Record<string, string | number>): void {
    for (const [name, fact] of Object.entries(facts)) if (this.root.dataset[name] !== String(fact)) this.root.dataset[name] = String(fact);
  }

  /** Keeps a moment, or another run's map, as A. */
  private setA(state: MapState, label?: string): void {
    this.controls.marked(this.layers.setA(state, label));
    this.redraw();
  }

  /** Shows this moment instead of what comes in, until called with null. */
  private setB(state: MapState | null, label = state === null ? "" : t("op {op}", { op: opNumber(state.op) })): void {
    this.b = state === null ? null : { state: { ...state, map: state.map.slice(), violations: state.violations.slice(), counts: state.counts.slice() }, label };
    this.redraw();
  }

  /** Shows where two moments differ; null ends it. */
  compareMoments(moments: { a: MapState; b: MapState } | null): void {
    this.layers.endComparison();
    this.comparePanel.tell(ENDED);
    this.setB(moments?.b ?? null);
    if (moments === null) return;
    this.setA(moments.a);
    this.follow(this.b?.state ?? moments.b);
    this.compare();
  }

  // ---- what is shown ----

  private follow(state: MapState): void {
    this.state = state;
    const before = this.model.violations.length;
    if (this.layers.follow(state)) {
      this.fresh = true;
      this.moves.window = null;
      this.moves.cursor = 0;
      this.selection = null;
    }
    this.showProblems(this.model.violations.length, before);
  }

  private words(state: MapState): void {
    const mfn = Math.min(this.moves.hover ?? this.moves.cursor, this.model.map.length - 1);
    this.details.look(mfn);
    this.panel.show(this.model, mfn, this.details, this.layers.fact(mfn));
    const { overlay, comparison, history } = this.layers;
    this.layerPanel.show(comparison === null ? overlay : "none", history, this.model.violations.length);
    if (comparison !== null) this.comparePanel.show(comparison, this.b?.label ?? t("now, op {op}", { op: opNumber(state.op) }), state.map.length);
    this.legend.show(state, this.model, this.isolated);
    this.selectPanel.show(this.model);
    this.histogram.show(this.model, this.redraw);
    this.twin.show(state, this.model, this.isolated);
  }

  private pictureWords(): string[] {
    const { model, layers: { overlay, comparison } } = this;
    return [
      t("{pages} pages of 4 KiB", { pages: count(model.map.length) }), model.grid.order === "rows" ? t("address rows") : t("Hilbert order"),
      `${this.violations(model.violations.length)}${model.violations.length > 0 ? ` ${t("(rings)")}` : ""}`,
      ...(comparison !== null ? [t("compared with {side}", { side: comparison.side.label })] : overlay === "none" ? [] : [t("overlay: {overlay}", { overlay: OVERLAYS[overlay].name })]),
    ];
  }

  private violations(found: number): string {
    return found === 0 ? t("No violations") : tn("{n} violation", "{n} violations", found);
  }

  private showProblems(now: number, before: number): void {
    const words = this.violations(now);
    if (this.problems.textContent === words) return;
    this.problems.textContent = this.inTitle.textContent = words;
    this.problems.className = now === 0 ? "status status-ok" : "status status-violation";
    this.inTitle.hidden = now === 0;
    document.title = (now === 0 ? "" : `(${words}) `) + document.title.replace(/^\(\d[^()]*\) /, "");
    if (now !== before) this.voice.say(words);
  }

  // ---- size and style ----

  private measureRoom(): { width: number; height: number } {
    const ratio = devicePixelRatio || 1;
    const height = Math.max(240, Math.min(innerHeight - 100, 900));
    // Asked for once and then told: asking again would lay the whole page out in the middle of a frame.
    this.width ||= this.room.clientWidth;
    return { width: Math.floor(Math.max(64, this.width) * ratio), height: Math.floor(height * ratio) };
  }

  private style(): Style {
    if (this.patterned || this.printing || forced.matches) return "pattern";
    return document.documentElement.dataset["theme"] === "projector" ? "heavy" : "colour";
  }

  private listen(): void {
    new ResizeObserver(() => {
      if (this.room.clientWidth === this.width) return;
      this.width = this.room.clientWidth;
      this.redraw();
    }).observe(this.room);
    const again = (): void => {
      this.surface.forget();
      this.redraw();
    };
    addEventListener("resize", this.redraw);
    forced.addEventListener("change", again);
    new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    void document.fonts.ready.then(again);
    // Paper gets the patterns; the picture must be ready before the browser takes it.
    for (const [name, on] of [["beforeprint", true], ["afterprint", false]] as const) {
      addEventListener(name, () => {
        this.printing = on;
        if (this.state !== null) this.draw(this.state);
      });
    }
  }

  // ---- what buttons and keys do ----

  private toggleOrder(): void {
    const next = this.model.grid.order === "rows" ? "hilbert" : "rows";
    if (this.selection !== null && "left" in this.selection) this.selection = null;
    this.moves.setOrder(next);
    this.controls.show("order", next === "hilbert");
    this.voice.say(next === "hilbert" ? t("Hilbert order") : t("Address rows"));
  }

  private mark(): void {
    if (this.state === null) return;
    this.setA(this.state);
    this.voice.say(t("Marked as A: {label}", { label: this.layers.a?.label ?? "" }));
  }

  private compare(): void {
    const words = this.layers.toggleComparison();
    this.voice.say(words);
    this.comparePanel.tell(words);
    this.redraw();
  }

  private setOverlay(wanted: Overlay): void {
    this.layers.overlay = wanted;
    this.redraw();
  }

  private isolate(byte: number): void {
    this.isolated = this.isolated === byte ? null : byte;
    const owner = this.model.owners.find((each) => each.byte === this.isolated);
    this.voice.say(owner === undefined ? t("All owners shown") : t("{owner} alone, the others dimmed", { owner: owner.name }));
    this.redraw();
  }

  /** The pages that the address names, once. */
  private selectLinked(frames: number): void {
    const [first, last] = this.linked?.split("-").map((each) => pageOf(each, frames)) ?? [];
    this.linked = null;
    if (first != null && last != null && first <= last) this.select({ from: first, to: last });
  }

  private select(selection: Selection | null): void {
    this.selection = selection;
    // What a link to this moment repeats; a rectangle has no such name.
    this.root.dataset["selected"] = selection !== null && "from" in selection ? `${hex(selection.from)}-${hex(selection.to)}` : "";
    this.redraw();
  }

  private togglePattern(): void {
    this.patterned = !this.patterned;
    this.controls.show("pattern", this.patterned);
    this.redraw();
  }

  private toggleTable(): void {
    const shown = Boolean(this.twin.element.hidden);
    this.twin.element.hidden = !shown;
    this.controls.show("table", shown);
    this.redraw();
  }
}
