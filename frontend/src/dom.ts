/** Small helpers for views: elements, redraws merged into one animation frame, a polite voice of one message a second. */

import { count, decimal, t } from "./words";

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A toolbar button: an icon when one is named, else its text; the name is always there for screen readers. */
export function button(name: string, press: () => void, icon = ""): HTMLButtonElement {
  const face = icon === "" ? name : el("span", { class: "icon", "data-icon": icon, "aria-hidden": "true" });
  const made = el("button", { type: "button", class: "button button-quiet", "aria-label": name, title: name }, face);
  made.addEventListener("click", press);
  return made;
}

const waiting = new Set<() => void>();
/** Calls `draw` once in the next animation frame, however often it is asked for. */
export function schedule(draw: () => void): void {
  if (waiting.size === 0) {
    requestAnimationFrame(() => {
      const now = [...waiting];
      waiting.clear();
      for (const each of now) each();
    });
  }
  waiting.add(draw);
}

/** A polite live region that says the newest message, at most one a second. */
export class Voice {
  readonly element = el("p", { class: "visually-hidden", role: "status", "aria-live": "polite" });
  private next = "";
  private busy = false;

  say(message: string): void {
    this.next = message;
    if (this.busy) return;
    this.busy = true;
    this.element.textContent = message;
    setTimeout(() => {
      this.busy = false;
      if (this.next !== this.element.textContent) this.say(this.next);
    }, 1000);
  }
}

export { count };
export const hex = (value: number): string => `0x${value.toString(16)}`;
export const share = (part: number, whole: number): string => (whole === 0 ? "-" : `${decimal((100 * part) / whole, 1)} %`);

const OUTCOMES = new Set(["BLOCKED", "DETECTED", "SUCCEEDED", "OUT OF SCOPE", "NOT APPLICABLE", "ERROR"]);
/** The class of an outcome word; words outside the vocabulary stay plain text. */
export const outcomeClass = (word: string): string =>
  OUTCOMES.has(word) ? `outcome outcome-${word.toLowerCase().replaceAll(" ", "-")}` : word === "STALE RESULT" ? "outcome outcome-stale" : "";

/** Makes `body` hold exactly these rows of cells; a cell is text or a ready element. */
export function fillRows(body: HTMLElement, rows: (string | Node)[][], numeric: readonly number[] = []): void {
  body.replaceChildren(...rows.map((row) => el("tr", {}, ...row.map((cell, i) => el("td", numeric.includes(i) ? { class: "num" } : {}, cell)))));
}

const STEP = 200;

/** A long table that shows the first rows and a button for more, refilled at most once a second so that no reader is pulled away. */
export class LongTable {
  readonly element: HTMLElement;
  private readonly twin: { element: HTMLTableElement; body: HTMLElement };
  private readonly more = el("button", { type: "button", class: "button" });
  private limit = STEP;
  private filledAt = 0;
  private later: ReturnType<typeof setTimeout> | undefined;
  private rows: () => { total: number; row: (index: number) => (string | Node)[] } = () => ({ total: 0, row: () => [] });

  constructor(caption: string, heads: string[], private readonly numeric: readonly number[] = []) {
    this.twin = table(caption, heads, numeric);
    this.element = el("div", { class: "long-table" }, el("div", { class: "table-scroll", tabindex: "0", role: "group", "aria-label": t("Table, scrolls sideways") }, this.twin.element), el("div", { class: "actions" }, this.more));
    this.more.addEventListener("click", () => {
      this.limit += STEP;
      this.fill();
    });
  }

  /** Shows these rows now or within a second; the newest call wins. */
  show(rows: typeof this.rows): void {
    this.rows = rows;
    const wait = this.filledAt + 1000 - Date.now();
    if (wait <= 0) this.fill();
    else this.later ??= setTimeout(() => this.fill(), wait);
  }

  private fill(): void {
    clearTimeout(this.later);
    this.later = undefined;
    this.filledAt = Date.now();
    const { total, row } = this.rows();
    const shown = Math.min(total, this.limit);
    fillRows(this.twin.body, total === 0 ? [[t("none")]] : Array.from({ length: shown }, (_, i) => row(i)), this.numeric);
    this.more.hidden = shown === total;
    this.more.textContent = t("Show more ({shown} of {total})", { shown: count(shown), total: count(total) });
  }
}

export function table(caption: string, heads: string[], numeric: readonly number[] = []): { element: HTMLTableElement; body: HTMLElement } {
  const body = el("tbody");
  const head = el("tr", {}, ...heads.map((name, i) => el("th", numeric.includes(i) ? { scope: "col", class: "num" } : { scope: "col" }, name)));
  return { element: el("table", { class: "table table-compact" }, el("caption", {}, caption), el("thead", {}, head), body), body };
}
