/** Keeps the cells of the server's attack x architecture table up to date. Rows and columns are the server's. */

import { el, outcomeClass, Voice } from "./dom";
import type { MatrixState } from "./store";
import { linkButton, tableDrawing, takeAway, type DrawnCell, type Sheet } from "./take_away";
import type { MatrixCell } from "./wire";
import { say, t } from "./words";

const EVIDENCE: Record<string, string> = { d: t("derived"), o: t("our own rule"), m: t("modelled") };
/** Grounds of a drawn table; the word stands on each. */
const GROUND: Record<string, string> = { BLOCKED: "#dcefe3", DETECTED: "#dcefe3", SUCCEEDED: "#f9dedc", "OUT OF SCOPE": "#eef1f5", "NOT APPLICABLE": "#eef1f5", ERROR: "#fdebc8", "STALE RESULT": "#e3e5e8" };
const LEGEND = t("Letters: none stated in the paper, d derived, o our own rule, m modelled. OUT OF SCOPE and NOT APPLICABLE are no passes.");

/** Where an arrow key leads in a grid of `rows` x `columns`; null for every other key. */
export function moved(key: string, row: number, column: number, rows: number, columns: number, ctrl: boolean): [number, number] | null {
  switch (key) {
    case "ArrowUp": return [Math.max(row - 1, 0), column];
    case "ArrowDown": return [Math.min(row + 1, rows - 1), column];
    case "ArrowLeft": return [row, Math.max(column - 1, 0)];
    case "ArrowRight": return [row, Math.min(column + 1, columns - 1)];
    case "Home": return [ctrl ? 0 : row, 0];
    case "End": return [ctrl ? rows - 1 : row, columns - 1];
    default: return null;
  }
}

/** All that a cell holds, in one sentence. */
export function factsOf(cell: MatrixCell): string {
  const name = t("{attack} on {architecture}", { attack: cell.attack, architecture: cell.architecture });
  if (cell.state !== "done") return `${name}: ${say(cell.state)}.`;
  const facts = [
    cell.seed && t("seed {seed}", { seed: cell.seed }), cell.engine && t("engine {engine}", { engine: cell.engine }), cell.durationMs && `${cell.durationMs} ms`,
    Number(cell.ops) > 0 && t("operations 1 to {ops}", { ops: cell.ops }), cell.digest && t("digest {what}", { what: cell.digest.slice(0, 16) }),
    t("expectation {what}", { what: EVIDENCE[cell.evidence] ?? (cell.architecture.includes(" ") ? t("none: a what-if") : t("stated in the paper")) }),
  ].filter(Boolean);
  const old = cell.oldWord ? ` ${t("(was {word})", { word: say(cell.oldWord) })}` : "", by = cell.check ? ` ${t("by {check}", { check: cell.check })}` : "";
  return `${name}: ${say(cell.word)}${old}${by}; ${facts.join(", ")}.`;
}

export class AttackMatrix {
  private readonly voice = new Voice();
  private readonly shown = new Map<string, string>();
  private readonly facts = el("p", { class: "matrix-facts muted", id: "cell-facts", hidden: "" });
  private state: MatrixState | null = null;
  private at: HTMLElement | null = null;

  constructor(private readonly root: HTMLElement) {
    root.append(this.facts, this.voice.element);
    root.querySelector(".panel-header")?.append(el("div", { class: "actions" }, linkButton(t("Link to this table"), () => location.href), takeAway({
      root, name: "attack-matrix", title: t("Attacks and architectures"), sheet: () => this.sheet(), json: () => [...this.state?.cells.values() ?? []],
      picture: () => this.picture(),
    })));
    root.querySelector("table.matrix")?.setAttribute("role", "grid");
    root.addEventListener("focusin", (event) => this.visit(event.target));
    root.addEventListener("mouseover", (event) => this.visit(event.target, false));
    root.addEventListener("keydown", (event) => this.key(event));
    this.rove();
  }

  draw(state: MatrixState): void {
    this.state = state;
    for (const [key, cell] of state.cells) {
      const face = JSON.stringify(cell);
      if (this.shown.get(key) === face) continue;
      const place = this.root.querySelector<HTMLElement>(`td[data-attack="${CSS.escape(cell.attack)}"][data-architecture="${CSS.escape(cell.architecture)}"]`);
      if (place === null) continue;
      if (this.shown.has(key) && cell.state === "done") this.voice.say(t("{attack} on {architecture}: {word}", { attack: cell.attack, architecture: cell.architecture, word: say(cell.word) }));
      this.shown.set(key, face);
      const focused = place.contains(document.activeElement);
      place.replaceChildren(...cellFace(cell));
      if (focused) stop(place)?.focus({ preventScroll: true });
    }
    const cells = [...state.cells.values()];
    const engine = cells.find((cell) => cell.engine !== "")?.engine ?? "", seed = cells[0]?.seed ?? "";
    Object.assign(this.root.dataset, { done: String(cells.filter((cell) => cell.state === "done").length), cells: String(state.cells.size), engine, seed });
    this.rove();
  }

  private places(): HTMLElement[][] {
    return [...this.root.querySelectorAll("table.matrix tbody tr")].map((row) => [...row.querySelectorAll<HTMLElement>("td[data-attack]")]).filter((row) => row.length > 0);
  }

  /** One cell of the grid is a stop for Tab, the others are reached by arrow keys. */
  private rove(): void {
    const all = this.places().flat();
    if (this.at === null || !this.at.isConnected) this.at = all[0] ?? null;
    for (const place of all) {
      const inside = stop(place);
      if (inside !== null) inside.tabIndex = place === this.at ? 0 : -1;
      inside?.setAttribute("aria-describedby", "cell-facts");
    }
  }

  private visit(target: EventTarget | null, move = true): void {
    const place = target instanceof Element ? target.closest<HTMLElement>("td[data-attack]") : null;
    if (place === null) return;
    const cell = this.state?.cells.get(`${place.dataset["attack"] ?? ""} ${place.dataset["architecture"] ?? ""}`);
    if (cell !== undefined) {
      this.facts.textContent = factsOf(cell);
      this.facts.hidden = false;
    }
    if (!move || place === this.at) return;
    this.at = place;
    this.rove();
  }

  private key(event: KeyboardEvent): void {
    const place = event.target instanceof Element ? event.target.closest<HTMLElement>("td[data-attack]") : null;
    if (place === null || event.altKey || event.metaKey) return;
    const rows = this.places();
    const row = rows.findIndex((each) => each.includes(place));
    const to = moved(event.key, row, rows[row]?.indexOf(place) ?? 0, rows.length, rows[row]?.length ?? 0, event.ctrlKey);
    const next = to === null ? undefined : rows[to[0]]?.[to[1]];
    if (next === undefined) return;
    event.preventDefault();
    stop(next)?.focus();
  }

  private columns(): string[] {
    return [...this.root.querySelectorAll<HTMLElement>("table.matrix thead th[data-column]")].map((head) => head.dataset["column"] ?? "");
  }

  private attacks(): { id: string; title: string }[] {
    return [...this.root.querySelectorAll<HTMLElement>("table.matrix tbody th[data-attack]")].map((head) => ({ id: head.dataset["attack"] ?? "", title: head.querySelector("span")?.textContent ?? "" }));
  }

  /** One row a cell, with all that it holds. */
  private sheet(): Sheet {
    const cells = this.attacks().flatMap(({ id }) => this.columns().map((column) => this.state?.cells.get(`${id} ${column}`)));
    return {
      heads: ["attack", "title", "column", "outcome", "was", "evidence", "check", "seed", "engine", "ms", "operations", "digest"],
      rows: cells.filter((cell) => cell !== undefined).map((c) => [c.attack, c.title, c.architecture, c.state === "done" ? c.word : c.state, c.oldWord, c.evidence, c.check, c.seed, c.engine, c.durationMs, c.ops, c.digest]),
    };
  }

  private picture(): ReturnType<typeof tableDrawing> {
    const columns = this.columns();
    const rows = this.attacks().map(({ id, title }): DrawnCell[] => [{ text: `${id} ${title}` }, ...columns.map((column): DrawnCell => {
      const cell = this.state?.cells.get(`${id} ${column}`);
      const word = cell === undefined ? "" : cell.state === "done" ? cell.word : cell.state;
      return { text: [say(word), cell?.evidence ?? ""].filter(Boolean).join(" "), fill: GROUND[word] ?? "#ffffff" };
    })]);
    const drawn = tableDrawing([t("Attack"), ...columns], rows);
    return { ...drawn, height: drawn.height + 24, svg: `${drawn.svg}<text x="8" y="${drawn.height + 17}" fill="#14181f">${LEGEND}</text>` };
  }
}

/** What in a cell takes the focus: its link, else its word. */
const stop = (place: HTMLElement): HTMLElement | null => place.querySelector<HTMLElement>("a, .outcome, .chip");

function cellFace(cell: MatrixCell): (Node | string)[] {
  if (cell.state !== "done") return [el("span", { class: `outcome outcome-${cell.state}` }, say(cell.state))];
  const known = outcomeClass(cell.word) || "chip";
  const word = cell.url.startsWith("/") && !cell.url.startsWith("//")
    ? el("a", { class: known, href: cell.url }, say(cell.word)) : el("span", { class: known }, say(cell.word));
  const old = cell.oldWord === "" ? [] : [" ", el("span", { class: "muted" }, say(cell.oldWord))];
  return [word, ...old, ...(cell.evidence === "" ? [] : [" ", el("sup", { class: "evidence", title: EVIDENCE[cell.evidence] ?? "" }, cell.evidence)])];
}
