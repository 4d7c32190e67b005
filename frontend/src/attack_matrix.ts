/** Keeps the cells of the server's attack x architecture table up to date. Rows and columns are the server's. */

import { el, outcomeClass, Voice } from "./dom";
import type { MatrixState } from "./store";
import type { MatrixCell } from "./wire";

export class AttackMatrix {
  private readonly voice = new Voice();
  private readonly shown = new Map<string, string>();

  constructor(private readonly root: HTMLElement) {
    root.append(this.voice.element);
  }

  draw(state: MatrixState): void {
    for (const [key, cell] of state.cells) {
      const face = JSON.stringify(cell);
      if (this.shown.get(key) === face) continue;
      const place = this.root.querySelector(`td[data-attack="${CSS.escape(cell.attack)}"][data-architecture="${CSS.escape(cell.architecture)}"]`);
      if (place === null) continue;
      if (this.shown.has(key) && cell.state === "done") this.voice.say(`${cell.attack} on ${cell.architecture}: ${words(cell.outcome)}`);
      this.shown.set(key, face);
      place.replaceChildren(...cellFace(cell));
    }
    const done = [...state.cells.values()].filter((cell) => cell.state === "done").length;
    Object.assign(this.root.dataset, { done: String(done), cells: String(state.cells.size) });
  }
}

/** The code of an outcome as the page has it: OUT_OF_SCOPE is read as OUT OF SCOPE. */
const words = (outcome: string): string => outcome.replaceAll("_", " ");

const EVIDENCE: Record<string, string> = { d: "derived", o: "our own rule", m: "modelled" };

function cellFace(cell: MatrixCell): (Node | string)[] {
  if (cell.state !== "done") return [el("span", { class: `outcome outcome-${cell.state}` }, cell.state)];
  const outcome = words(cell.outcome);
  const known = outcomeClass(outcome) || "chip";
  const tip = [cell.check && `check ${cell.check}`, cell.seed && `seed ${cell.seed}`, cell.digest && `digest ${cell.digest.slice(0, 12)}`].filter(Boolean).join(", ");
  const word = cell.url.startsWith("/") && !cell.url.startsWith("//")
    ? el("a", { class: known, href: cell.url, title: tip }, outcome) : el("span", { class: known, title: tip }, outcome);
  return cell.evidence === "" ? [word] : [word, " ", el("sup", { class: "evidence", title: EVIDENCE[cell.evidence] ?? "" }, cell.evidence)];
}
