/** The exact legend: pages and share of every owner. A press isolates an owner; columns sort; pins pass a colour on where there are more VMs than colours. */

import { button, count, el, share, table } from "./dom";
import type { MapModel } from "./map_model";
import { named } from "./map_side";
import { lookOf, passPin } from "./palette";
import type { MapState } from "./store";
import type { Owner } from "./wire";
import { t } from "./words";

const COLOURS = 7;
interface Row { element: HTMLElement; face: HTMLButtonElement; pages: HTMLElement; share: HTMLElement; pin: HTMLElement; look: string }
type Order = "map" | "owner" | "pages";

export class Legend {
  private readonly twin = table(t("Pages by owner, exact"), [t("Owner"), t("Pages"), t("Share")], [1, 2]);
  readonly element = this.twin.element;
  private readonly rows = new Map<string, Row>();
  private order: Order = "map";
  private pages: [Owner, number][] = [];
  private shown = "";
  private turn = 0;

  constructor(private readonly isolate: (byte: number) => void, private readonly changed: () => void) {
    const heads = [...this.element.querySelectorAll("th")];
    (["owner", "pages"] as const).forEach((order, i) => {
      const head = heads[i] as HTMLElement;
      const sort = el("button", { type: "button", class: "sort" }, head.textContent ?? "");
      sort.addEventListener("click", () => {
        this.turn += 1;
        this.order = this.order === order ? "map" : order;
        heads.forEach((each, at) => each.setAttribute("aria-sort", at === i && this.order !== "map" ? (order === "owner" ? "ascending" : "descending") : "none"));
        this.changed();
      });
      head.replaceChildren(sort);
    });
  }

  show(state: MapState, model: MapModel, isolated: number | null): void {
    const key = `${model.version} ${state.seq} ${this.order} ${isolated} ${this.turn}`;
    if (key === this.shown) return;
    this.shown = key;
    this.pages = model.owners.map((owner): [Owner, number] => [owner, state.counts[owner.byte] ?? 0])
      .filter(([owner, pages]) => pages > 0 || owner.byte < 3 || owner.byte === isolated);
    if (this.order === "owner") this.pages.sort(([a], [b]) => a.name.localeCompare(b.name));
    if (this.order === "pages") this.pages.sort(([, a], [, b]) => b - a);
    const crowded = model.owners.filter(isVm).length > COLOURS;
    const shown = new Set<string>();
    this.pages.forEach(([owner, pages], i) => {
      const key = `${owner.owner} ${owner.byte}`;
      shown.add(key);
      const row = this.rows.get(key) ?? this.make(key, owner);
      const look = `${lookOf(owner).className} ${owner.name}`;
      if (look !== row.look) {
        row.look = look;
        row.face.replaceChildren(...named(owner));
        row.pin.replaceChildren(...this.pinButton(owner));
      }
      row.pin.hidden = !crowded;
      row.face.setAttribute("aria-pressed", String(isolated === owner.byte));
      set(row.pages, count(pages));
      set(row.share, share(pages, state.map.length));
      // Moved only when it must be: a moved row loses the focus.
      if (this.twin.body.children[i] !== row.element) this.twin.body.insertBefore(row.element, this.twin.body.children[i] ?? null);
    });
    for (const [key, row] of this.rows) {
      if (shown.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
  }

  private make(key: string, owner: Owner): Row {
    const face = el("button", { type: "button", class: "map-owner legend-owner", title: t("Show {owner} alone, the others dimmed", { owner: owner.name }) });
    face.addEventListener("click", () => this.isolate(owner.byte));
    const [pages, part, pin] = [el("td", { class: "num" }), el("td", { class: "num" }), el("span")];
    const row: Row = { element: el("tr", {}, el("td", {}, face, " ", pin), pages, part), face, pages, share: part, pin, look: "" };
    this.rows.set(key, row);
    return row;
  }

  private pinButton(owner: Owner): HTMLElement[] {
    if (!isVm(owner)) return [];
    const pinned = lookOf(owner).letter !== "";
    const made = button(pinned ? t("Unpin {owner}", { owner: owner.name }) : t("Pin {owner}", { owner: owner.name }), () => this.swap(owner, pinned));
    made.className = "legend-pin";
    made.textContent = pinned ? t("Unpin") : t("Pin");
    return [made];
  }

  /** Who is pinned takes the colour of the pinned VM with the fewest pages; who is unpinned leaves its to the unpinned one with the most. */
  private swap(owner: Owner, pinned: boolean): void {
    const others = this.pages.filter(([each]) => isVm(each) && each.owner !== owner.owner && (lookOf(each).letter !== "") !== pinned).sort(([, a], [, b]) => (pinned ? b - a : a - b));
    const other = others[0]?.[0];
    if (other === undefined) return;
    if (pinned) passPin(owner, other);
    else passPin(other, owner);
    this.turn += 1;
    this.changed();
  }
}

const isVm = (owner: Owner): boolean => owner.owner.startsWith("vm:");

function set(cell: HTMLElement, text: string): void {
  if (cell.textContent !== text) cell.textContent = text;
}
