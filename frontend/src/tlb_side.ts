/** What stands beside the grid in words: the chosen entry with all that would flush it, and what changed last. */

import { count, el } from "./dom";
import { swatch } from "./map_side";
import type { MapState } from "./store";
import { kindOf, sentencesOf, type Machine } from "./tlb_flush";
import { placeWords, setOf, slotOf, type Cell, type Changed } from "./tlb_model";
import type { Geometry, Owner, TlbEntry } from "./wire";
import { say, t, tn } from "./words";

const LISTED = 12;

export interface Shown {
  geometry: Geometry; cells: readonly Cell[]; map: MapState | undefined; machine: Machine | undefined;
  ownerOf(entry: TlbEntry): Owner;
}

/** The chosen cell: it stays chosen while entries come and go in it. */
export class EntryPanel {
  readonly element = el("section", { class: "tlb-entry", "aria-label": t("The chosen entry"), hidden: "" });
  private key = "";

  constructor(private readonly close: () => void) {}

  show(index: number, shown: Shown): void {
    const entry = shown.cells[index] ?? null;
    const key = JSON.stringify([index, entry, entry === null ? "" : this.sentences(entry, shown), shown.ownerOf(entry ?? ({ owner: -1 } as TlbEntry)).name, this.frameOwner(entry, shown)]);
    this.element.hidden = false;
    if (key === this.key) return;
    this.key = key;
    const place = slotOf(shown.geometry, index);
    const close = el("button", { type: "button", class: "button button-quiet" }, t("Close"));
    close.addEventListener("click", () => this.close());
    const words = placeWords(place);
    this.element.replaceChildren(
      el("div", { class: "tlb-entry-head" }, el("h3", {}, `${words[0]?.toUpperCase()}${words.slice(1)}`), close),
      ...(entry === null ? [el("p", {}, t("Empty now. The next new translation into this set takes the first of its empty ways."))] : this.body(entry, shown)),
    );
  }

  hide(): void {
    this.element.hidden = true;
    this.key = "";
  }

  private sentences(entry: TlbEntry, shown: Shown): ReturnType<typeof sentencesOf> {
    const owner = shown.ownerOf(entry);
    return sentencesOf(entry, shown.cells, shown.geometry, owner.byte < 3 || owner.owner === "other" ? undefined : owner.name, shown.machine);
  }

  /** Who owns the frame now, by the map; unknown without one. */
  private frameOwner(entry: TlbEntry | null, { map }: Shown): string {
    return map === undefined || entry === null ? "" : (map.owners.find((owner) => owner.byte === map.map[entry.mfn])?.name ?? "");
  }

  private body(entry: TlbEntry, shown: Shown): HTMLElement[] {
    const owner = shown.ownerOf(entry);
    const { drops, leaves } = this.sentences(entry, shown);
    const ways = setOf(shown.geometry, shown.cells, entry.index).length;
    const frameOwner = this.frameOwner(entry, shown);
    const fact = (term: string, ...value: (string | Node)[]): HTMLElement => el("div", {}, el("dt", {}, term), el("dd", {}, ...value));
    const mono = (text: string): HTMLElement => el("span", { class: "mono" }, text);
    const list = (sentences: string[]): HTMLElement => el("ul", {}, ...sentences.map((each) => el("li", {}, each)));
    const parts: HTMLElement[] = [el("dl", { class: "facts" },
      fact(t("Owner"), el("span", { class: "map-owner" }, swatch(owner), ` ${owner.name}`)),
      fact(t("Translates"), `${kindOf(entry)} `, mono(entry.vpn), entry.size > 1 ? ` ${t("and the {n} after it (2 MiB)", { n: entry.size - 1 })}` : ""),
      fact(t("Reaches frame"), mono(`0x${entry.mfn.toString(16)}`), frameOwner === "" ? "" : `, ${t("owned by {owner} now", { owner: frameOwner })}`),
      fact(t("Permission"), entry.perm),
      fact(t("Age"), t("{age} of the {ways} ways of its set are replaced later", { age: entry.age, ways })),
      fact(t("State"), entry.state === "ok" ? t("agrees with a walk made now") : el("strong", { class: "tlb-state" }, say(entry.state))),
    )];
    if (entry.state === "STALE") parts.push(el("p", {}, t("A walk made now would answer otherwise: as long as this entry stays, its core goes on by what is no longer true.")));
    if (entry.state === "PENDING") parts.push(el("p", {}, t("The page was taken, but its release was stopped before the shootdown.")));
    parts.push(el("h4", {}, t("What would flush this?")), list(drops));
    if (leaves.length > 0) parts.push(el("h4", {}, t("What would not")), list(leaves));
    return parts;
  }
}

/** What changed at the last look, in words: open where nothing may move. */
export class ChangeList {
  private readonly head = el("summary", {}, t("No change yet"));
  private readonly rows = el("ol", {});
  readonly element = el("details", { class: "more tlb-changes" }, this.head, this.rows);
  private found: readonly Changed[] = [];

  constructor(open: boolean) {
    this.element.open = open;
    this.element.addEventListener("toggle", () => this.fill());
  }

  show(found: readonly Changed[]): void {
    this.found = found;
    this.head.textContent = tn("{n} change on this core since the state drawn before", "{n} changes on this core since the state drawn before", found.length);
    this.fill();
  }

  private fill(): void {
    if (!this.element.open) return;
    const shown = this.found.slice(0, LISTED).map(({ says }) => el("li", {}, says));
    if (this.found.length > LISTED) shown.push(el("li", {}, t("and {n} more", { n: count(this.found.length - LISTED) })));
    this.rows.replaceChildren(...shown);
  }
}
