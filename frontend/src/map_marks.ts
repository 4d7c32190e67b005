/** What is laid over the owners, one thing at a time: an overlay of the history, the violations, or what differs from moment A. */

import type { Layer } from "./map_canvas";
import type { Comparison } from "./map_compare";
import { place } from "./map_geometry";
import { AGES, type History, type Overlay } from "./map_history";
import type { MapModel } from "./map_model";
import { MaxPyramid } from "./map_pyramid";
import type { Look } from "./palette";
import { opNumber, t, tn } from "./words";

const look = (colour: string, letter: string): Look => ({ colour, letter, texture: "none", className: "" });
/** From the longest ago to the newest: mark 1 to 5. */
export const AGE_LOOKS = [look("#6B3A6E", "1"), look("#B0436A", "2"), look("#E0693C", "3"), look("#F7AE3A", "4"), look("#FFF6C2", "5")];
export const OVERLAYS: Record<Overlay, { name: string; looks: readonly Look[] }> = {
  none: { name: t("none"), looks: [] },
  age: { name: t("age since last change"), looks: AGE_LOOKS },
  given: { name: t("given back"), looks: [look("#FFF6C2", "-")] },
  attack: { name: t("attack footprint"), looks: [look("#FF8A80", "x")] },
  violations: { name: t("NPT mismatch (violations)"), looks: [look("#FF3B30", "!")] },
};

export class Marks {
  private pyramid: MaxPyramid | null = null;
  private builtFor = "";
  private version = 0;

  constructor(private readonly model: MapModel, private readonly history: History) {}

  /** The layer to paint; `comparison` wins over the overlay. */
  layer(overlay: Overlay, comparison: Comparison | null): Layer | null {
    if (comparison === null && overlay === "none") {
      this.pyramid = null;
      this.builtFor = "";
      return null;
    }
    if (comparison === null && overlay === "violations") return { marks: this.model.wrong.levels, looks: OVERLAYS.violations.looks, version: overlay };
    const key = `${this.model.grid.order} ${this.model.map.length} ${overlay}`;
    if (key !== this.builtFor || this.pyramid === null) {
      this.builtFor = key;
      this.build(overlay, comparison);
    }
    return { marks: this.pyramid?.levels ?? [], looks: comparison === null ? OVERLAYS[overlay].looks : "as-is", version: `${overlay} ${this.version}` };
  }

  forget(): void {
    this.builtFor = "";
  }

  touch(mfn: number, overlay: Overlay, comparison: Comparison | null): void {
    if (this.pyramid === null) return;
    const { column, row } = place(this.model.grid, mfn);
    const value = this.valueOf(mfn, overlay, comparison);
    if (this.pyramid.get(column, row) === value) return;
    this.pyramid.set(column, row, value);
    this.version += 1;
  }

  private valueOf(mfn: number, overlay: Overlay, comparison: Comparison | null): number {
    if (comparison !== null) return comparison.changed(mfn, this.model.map[mfn] as number) ? 1 : 0;
    return this.history.markOf(overlay, mfn);
  }

  private build(overlay: Overlay, comparison: Comparison | null): void {
    const { model } = this;
    const values = new Uint8Array(model.map.length);
    for (let mfn = 0; mfn < values.length; mfn++) values[mfn] = this.valueOf(mfn, overlay, comparison);
    this.pyramid = new MaxPyramid(model.grid.columns, model.grid.rows, model.lay(values, 0));
    this.pyramid.rebuild();
    this.version += 1;
  }
}

/** What each colour of an overlay means, and since when it is watched. */
export function overlayWords(overlay: Overlay, history: History, violations: number): { lead: string; rows: [Look, string][] } {
    const since = t("since op {since}, when this map began to watch", { since: opNumber(history.since) });
  const [first] = OVERLAYS[overlay].looks;
  if (overlay === "age") {
    const words = AGES.map((from, i) => {
      const next = AGES[i + 1];
      return from === 0 ? t("in the newest step") : next === undefined ? t("{from} steps ago or more", { from }) : t("{from} to {to} steps ago", { from, to: next - 1 });
    });
    return { lead: t("When each page last changed its owner, in steps of the picture, {since}. Dimmed: not changed.", { since }), rows: words.map((word, i): [Look, string] => [AGE_LOOKS[AGE_LOOKS.length - 1 - i] as Look, word]) };
  }
  if (first === undefined) return { lead: "", rows: [] };
  if (overlay === "given") {
    return { lead: t("Pages that went from a VM to free {since}: by its balloon, by swapping out, or because it stopped.", { since }), rows: [[first, tn("{n} page given back", "{n} pages given back", history.given)]] };
  }
  if (overlay === "attack") {
    const lead = history.attackOp === null ? t("Pages that change in the step in which an attack's guest lives. None was seen {since}.", { since })
      : t("Pages that changed in the step in which an attack's guest lived, last at op {attackOp}.", { attackOp: opNumber(history.attackOp) });
    return { lead, rows: [[first, tn("{n} page touched", "{n} pages touched", history.attacked)]] };
  }
  return { lead: t("Pages whose mappings contradict their owner now: the nested page tables and the owner table do not fit."), rows: [[first, tn("{n} page", "{n} pages", violations)]] };
}
