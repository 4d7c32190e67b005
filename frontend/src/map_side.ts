/** What stands beside the map in words: the frame under the cursor, and what only the server knows of it. */

import { count, el, hex } from "./dom";
import { pageName, type Details, type FrameDetails } from "./map_details";
import { extentAt } from "./map_extents";
import type { MapModel } from "./map_model";
import { lookOf } from "./palette";
import type { Owner } from "./wire";
import { opNumber, say, t, tn } from "./words";

const PAGE_BYTES = 4096;

export function swatch(owner: Pick<Owner, "owner" | "letter">): HTMLElement {
  const look = lookOf(owner);
  return el("span", { class: `owner ${look.className}`, "aria-hidden": "true" }, look.letter);
}

export function named(owner: Owner | undefined): (string | Node)[] {
  if (owner === undefined) return ["unknown"];
  const { letter } = lookOf(owner);
  return [swatch(owner), ` ${owner.name}${letter === "" ? "" : ` (${letter})`}`];
}

export const ownerCell = (owner: Owner | undefined): HTMLElement => el("span", { class: "map-owner" }, ...named(owner));
export const mono = (text: string): HTMLElement => el("span", { class: "mono" }, text);

/** The sentence the live region says about a frame. */
export function frameInWords(model: MapModel, mfn: number): string {
  const parts = { page: hex(mfn), owner: model.ownerOf(mfn)?.name ?? t("unknown") };
  return model.isWrong(mfn) ? t("Page {page}, {owner}, violation", parts) : t("Page {page}, {owner}", parts);
}

const NOBODY = { owner: "", letter: "" };

export class CursorPanel {
  readonly element = el("dl", { class: "facts map-cursor" });
  private readonly facts = new Map<string, HTMLElement>();
  /** The run under the cursor, looked for again only when the map or the run is another. */
  private shown = "";
  private shownDetails: Details["now"] = null;
  private run = { version: -1, start: 0, length: 0 };

  /** `more`: a sentence of the layer that is shown, such as how old the frame is. */
  show(model: MapModel, mfn: number, details: Details, more: [string, string] | null): void {
    const key = `${model.version} ${mfn} ${more?.join() ?? ""} ${model.ownerOf(mfn)?.name ?? ""} ${lookOf(model.ownerOf(mfn) ?? NOBODY).className}`;
    if (key === this.shown && details.now === this.shownDetails) return;
    this.shown = key;
    this.shownDetails = details.now;
    const within = mfn >= this.run.start && mfn < this.run.start + this.run.length;
    if (this.run.version !== model.version || !within) this.run = { version: model.version, ...extentAt(model.map, mfn) };
    const { start, length } = this.run;
    const wrong = model.isWrong(mfn);
    this.fact(t("Page"), mono(hex(mfn)), ` (${count(mfn)})`);
    this.fact(t("Address"), mono(hex(mfn * PAGE_BYTES)));
    this.fact(t("Owner"), ownerCell(model.ownerOf(mfn)));
    this.fact(t("In extent"), mono(`${hex(start)}-${hex(start + length - 1)}`), ` ${tn("{n} page", "{n} pages", length)}`);
    this.fact(t("Violation"), el("span", { class: wrong ? "status status-violation" : "status status-ok" }, wrong ? t("yes") : t("none")));
    if (more !== null) this.fact(...more);
    for (const term of [t("Changed"), t("Was")]) if (term !== more?.[0]) this.drop(term);
    if (details.offered) this.showDetails(details.now);
  }

  private showDetails(details: FrameDetails | "none" | null): void {
    const terms = [t("Guest page"), t("Mappings"), t("Protected"), t("Cleared on release"), t("TLB entries"), t("Last operations")];
    if (details === "none") {
      terms.forEach((term) => this.drop(term));
      return this.fact(t("Details"), t("details not available"));
    }
    // While it is asked for, the rows of the last answer stay: a panel that grows and shrinks moves the page below it.
    if (details === null) return (this.facts.has(t("Details")) ? [t("Details")] : terms).forEach((term) => this.fact(term, "..."));
    this.drop(t("Details"));
    const { maps, tlb, operations } = details;
    this.fact(t("Guest page"), maps.length === 0 ? t("none") : maps.map((each) => t("{page} of {vm} ({perm})", { page: pageName(each.gpn), vm: each.vm, perm: each.perm })).join(", "));
    this.fact(t("Mappings"), count(maps.length));
    this.fact(t("Protected"), details.protected ? t("yes") : t("no"));
    this.fact(t("Cleared on release"), details.cleared ? t("yes") : t("no"));
    const stale = tlb.filter((entry) => entry.state === "STALE").length;
    this.fact(t("TLB entries"), tlb.length === 0 ? t("none") : el("ul", { class: "plain" }, ...tlb.map((entry) =>
      el("li", {}, `${t("core {core}, {level}, set {set}, way {way}", { core: entry.core, level: typeof entry.level === "number" ? t("level {level}", { level: entry.level }) : entry.level, set: entry.set, way: entry.way })} `,
        entry.state === "ok" ? "" : el("span", { class: entry.state === "STALE" ? "status status-violation" : "status status-warning" }, say(entry.state))))));
    if (stale > 0) this.element.dataset["stale"] = String(stale);
    else delete this.element.dataset["stale"];
    this.fact(t("Last operations"), operations.length === 0 ? t("none") : el("ul", { class: "plain" }, ...operations.slice(0, 3).map((each) => el("li", {}, mono(t("op {op}", { op: opNumber(each.op) })), ` ${say(each.what)}`))));
    if (details.since_op !== null) (this.facts.get(t("Owner")) as HTMLElement).append(` ${t("since op {op}", { op: opNumber(details.since_op) })}`);
  }

  private fact(term: string, ...value: (string | Node)[]): void {
    let its = this.facts.get(term);
    if (its === undefined) {
      its = el("dd");
      this.facts.set(term, its);
      this.element.append(el("div", {}, el("dt", {}, term), its));
    }
    its.replaceChildren(...value);
  }

  private drop(term: string): void {
    this.facts.get(term)?.parentElement?.remove();
    this.facts.delete(term);
  }
}
