/** Panels beside the map: what an overlay shows, what differs from moment A, a selection, how long extents are. */

import { count, el, fillRows, table } from "./dom";
import type { Comparison } from "./map_compare";
import { ENDED } from "./map_layers";
import { extentsOf, histogram } from "./map_extents";
import type { History, Overlay } from "./map_history";
import { OVERLAYS, overlayWords } from "./map_marks";
import type { MapModel } from "./map_model";
import { inWords, pageOf, sheetOf, type Selection } from "./map_select";
import { inkOf } from "./palette";
import { csvOf, give, labelOf } from "./take_away";
import { t } from "./words";

/** The site's policy lets no style stand in the markup; set by script it may. */
function styled(element: HTMLElement, styles: Partial<CSSStyleDeclaration>): HTMLElement {
  Object.assign(element.style, styles);
  return element;
}

export class OverlayPanel {
  readonly element = el("section", { class: "map-layer", hidden: "" });
  private said = "";

  show(overlay: Overlay, history: History, violations: number): void {
    this.element.hidden = overlay === "none";
    const { lead, rows } = overlayWords(overlay, history, violations);
    const words = lead + rows.map(([, text]) => text).join();
    if (words === this.said) return;
    this.said = words;
    this.element.replaceChildren(
      el("h3", {}, t("Overlay: {name}", { name: OVERLAYS[overlay].name })), el("p", { class: "muted" }, lead),
      el("ul", { class: "plain" }, ...rows.map(([look, text]) =>
        el("li", { class: "map-owner" }, styled(el("span", { class: "owner", "aria-hidden": "true" }, look.letter), { background: look.colour, color: inkOf(look.colour) }), text))),
    );
  }
}

export class ComparePanel {
  private readonly lead = el("p", { class: "muted" });
  private readonly twin = table(t("Pages that differ, exact"), [t("From"), t("To"), t("Pages")], [2]);
  readonly element = el("section", { class: "map-layer", hidden: "" }, el("h3", {}, t("A compared with B")), this.lead, this.twin.element);
  private said = "";

  /** What came of asking for a comparison: nothing to compare, or that it ended. */
  tell(words: string): void {
    this.lead.textContent = this.said = words;
    this.twin.element.hidden = true;
    this.element.hidden = words === ENDED;
  }

  show(comparison: Comparison, b: string, frames: number): void {
    this.element.hidden = this.twin.element.hidden = false;
    const rows = comparison.rows();
    const total = rows.reduce((sum, row) => sum + row.pages, 0);
    const lead = t("A: {side}. B: {b}. {total} of {frames} pages differ; they stay bright.", { side: comparison.side.label, b, total: count(total), frames: count(frames) });
    const said = lead + JSON.stringify(rows);
    if (said === this.said) return;
    this.said = said;
    this.lead.textContent = lead;
    fillRows(this.twin.body, rows.length === 0 ? [[t("no page differs")]] : rows.map((row) => [row.from, row.to, count(row.pages)]), [2]);
  }
}

/** Pages from a page to a page, typed; a rectangle is drawn with Shift on the map. */
export class SelectPanel {
  private readonly from = el("input", { class: "mono", size: "10", placeholder: "0x0" });
  private readonly to = el("input", { class: "mono", size: "10", placeholder: "0xff" });
  private readonly words = el("output", { class: "map-words" });
  private readonly actions = el("div", { class: "actions", hidden: "" });
  readonly element: HTMLDetailsElement;
  private shown = "";

  constructor(root: HTMLElement, model: () => MapModel, private readonly selection: () => Selection | null, select: (selection: Selection | null) => void) {
    const form = el("form", { class: "map-select" }, el("label", {}, `${t("From page")} `, this.from), el("label", {}, `${t("to page")} `, this.to), el("button", { class: "button" }, t("Select")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const frames = model().map.length;
      const [from, to] = [pageOf(this.from.value, frames), pageOf(this.to.value || this.from.value, frames)];
      this.from.setAttribute("aria-invalid", String(from === null));
      this.to.setAttribute("aria-invalid", String(to === null));
      if (from === null || to === null) this.words.textContent = t("Pages run from 0x0 to 0x{last}.", { last: (frames - 1).toString(16) });
      else select({ from: Math.min(from, to), to: Math.max(from, to) });
    });
    const act = (text: string, press: () => void): void => {
      const made = el("button", { type: "button", class: "button button-quiet" }, text);
      made.addEventListener("click", press);
      this.actions.append(made);
    };
    act("CSV of these pages", () => {
      const now = this.selection();
      if (now !== null) give("map-selection.csv", new Blob([csvOf(sheetOf(model(), now), labelOf(t("Selection of the ownership map"), root.dataset))], { type: "text/csv" }));
    });
    act("Clear", () => select(null));
    this.element = el("details", { class: "map-fold" }, el("summary", {}, t("Select pages")), form,
      el("p", { class: "muted" }, t("Or draw a rectangle on the map with Shift and the pointer.")), this.words, this.actions);
  }

  show(model: MapModel): void {
    const now = this.selection();
    const key = now === null ? "" : `${JSON.stringify(now)} ${model.version}`;
    if (key === this.shown) return;
    this.shown = key;
    if (now !== null) this.element.open = true;
    this.actions.hidden = now === null;
    this.words.textContent = now === null ? "" : inWords(model, now);
  }
}

/** Lengths of extents in powers of two, computed while it is open. */
export class HistogramPanel {
  private readonly twin = table(t("Extents by length in pages"), [t("Length"), t("Extents"), t("Pages")], [1, 2]);
  readonly element = el("details", { class: "map-fold" }, el("summary", {}, t("Lengths of extents")), this.twin.element);
  private shown = -1;
  private at = 0;

  constructor(again: () => void) {
    this.element.addEventListener("toggle", again);
  }

  show(model: MapModel, again: () => void): void {
    if (!this.element.open || this.shown === model.version) return;
    const wait = this.at + 1000 - Date.now();
    if (wait > 0) {
      setTimeout(again, wait);
      return;
    }
    this.at = Date.now();
    this.shown = model.version;
    const rows = histogram(extentsOf(model.map));
    const most = Math.max(1, ...rows.map((row) => row.extents));
    fillRows(this.twin.body, rows.filter((row) => row.extents > 0).map((row) => {
      const bar = styled(el("span", { class: "map-bar", "aria-hidden": "true" }), { width: `${Math.max(1, Math.round((72 * row.extents) / most))}px` });
      return [row.from === row.to ? String(row.from) : t("{from} to {to}", { from: count(row.from), to: count(row.to) }), el("span", { class: "map-barred" }, bar, count(row.extents)), count(row.frames)];
    }), [1, 2]);
  }
}
