/** Follows the states and keeps what may be laid over them: the history since the page opened, and a comparison with moment A. */

import { count } from "./dom";
import type { Layer } from "./map_canvas";
import { Comparison, sideOf, type Side } from "./map_compare";
import { History, type Overlay } from "./map_history";
import { Marks } from "./map_marks";
import type { MapModel } from "./map_model";
import type { MapState } from "./store";
import { t, tn } from "./words";

export const ENDED = t("Comparison ended");

export class Layers {
  readonly history = new History();
  overlay: Overlay = "none";
  a: Side | null = null;
  comparison: Comparison | null = null;
  private readonly marks: Marks;
  private last: { state: MapState; seq: number; op: number } | null = null;

  /** `compares` is told whether a comparison is on. */
  constructor(private readonly model: MapModel, private readonly compares: (on: boolean) => void) {
    this.marks = new Marks(model, this.history);
  }

  /** Takes a state over, each once. True when it is another map than before. */
  follow(state: MapState): boolean {
    const { last } = this;
    if (last?.state === state && last.seq === state.seq && last.op === state.op) return false;
    this.last = { state, seq: state.seq, op: state.op };
    const { owners } = this.model;
    const goesOn = this.history.next(state) && last !== null;
    const touched: number[] = [];
    const other = this.model.follow(state, (mfn, from, to) => {
      if (goesOn) this.history.note(mfn, from, to);
      this.comparison?.note(mfn, from, to);
      touched.push(mfn);
    });
    this.history.know(state.owners);
    if (!goesOn || other) this.marks.forget();
    if (other || owners !== state.owners) this.begin();
    const older = this.overlay === "age" && goesOn ? this.history.aged() : [];
    for (const frames of [touched, older]) for (const mfn of frames) this.marks.touch(mfn, this.overlay, this.comparison);
    return other;
  }

  layer(): Layer | null {
    return this.marks.layer(this.overlay, this.comparison);
  }

  /** Keeps a moment, or another run's map, as A; its label. */
  setA(state: MapState, label?: string): string {
    this.a = sideOf(state, label);
    this.begin();
    return this.a.label;
  }

  /** On or off; what to say about it. */
  toggleComparison(): string {
    const { a, model } = this;
    if (this.comparison !== null) {
      this.begin(false);
      return ENDED;
    }
    if (a === null) return t("Nothing is marked as A yet. M marks this moment.");
    if (a.map.length !== model.map.length) return t("A has {a} pages, this map {b}: only maps of one size can be compared.", { a: count(a.map.length), b: count(model.map.length) });
    this.begin(true);
    return t("Compared with {a}", { a: a.label });
  }

  endComparison(): void {
    if (this.comparison !== null) this.begin(false);
  }

  /** What the layer says of one frame. */
  fact(mfn: number): [string, string] | null {
    if (this.comparison !== null) return [t("Was"), t("{what} in A", { what: this.comparison.ownerBefore(mfn) })];
    if (this.overlay !== "age") return null;
    const age = this.history.ageOf(mfn);
    return [t("Changed"), age === null ? t("not since this map began to watch") : age === 0 ? t("in the newest step") : tn("{n} step ago", "{n} steps ago", age)];
  }

  /** The comparison anew: another A, other owners, or none any more. */
  private begin(on = this.comparison !== null): void {
    const { a, model } = this;
    this.comparison = on && a !== null && a.map.length === model.map.length ? new Comparison(a, model.map, model.owners) : null;
    this.compares(this.comparison !== null);
    this.marks.forget();
  }
}
