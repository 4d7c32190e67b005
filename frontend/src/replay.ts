/** The replay of an attack: the server executed it and drew one step; here all steps are walked through. Two films go in lock-step. */

import { button, el } from "./dom";
import { below, linkButton, tableDrawing, takeAway, xml, type Drawing, type Sheet } from "./take_away";
import { t } from "./words";

export interface Row { cells: string[]; mark: string; look: string }
export interface Step {
  n: number; at: number; says: string; phase?: string; op?: string; fields?: string; status?: string; check?: string; result?: string;
  frames: number[]; tlb: number[]; cpus: number[];
}
export interface Film { name: string; attack: string; title: string; seed: number; engine: string; digest: string; total: number; deciding: number; rows: Row[]; steps: Step[] }

const PARTS = ["frames", "tlb", "cpus"] as const;
const PLAY_MS = 900;
const ACROSS = 6, WIDE = 92, HIGH = 62;
const SIGNS: Record<string, string> = { free: t("free"), hypervisor: "HV", hsvm: "H-SVM", other: "VM" };

/** The film's step at number `n`; of one that is left out, the last one shown before it. */
export function stepAt(film: Film, n: number): Step | undefined {
  return film.steps.findLast((step) => step.n <= n) ?? film.steps[0];
}

/** The numbers of the steps that at least one film shows, ascending. */
export const numbersOf = (films: readonly Film[]): number[] => [...new Set(films.flatMap((film) => film.steps.map((step) => step.n)))].sort((a, b) => a - b);

const answer = (step: Step | undefined): string => [step?.status ?? "", step?.check ? t("by {check}", { check: step.check }) : ""].filter(Boolean).join(" ");

/** What two machines answered at step `n`, in one sentence. */
export function both(films: readonly Film[], n: number): string {
  if (n === 0) return t("Nothing is done yet on either machine.");
  const said = films.map((film) => t("{film} answered {answer}", { film: film.name, answer: answer(stepAt(film, n)) || t("nothing") }));
  return t("Step {n}, {op}: {answers}.", { n, op: stepAt(films[0] as Film, n)?.op ?? "", answers: said.join(", ") });
}

/** One row a step: of one film with fields and result, of two with both answers. */
export function sheetOf(films: readonly Film[]): Sheet {
  const numbers = numbersOf(films).filter((n) => n > 0);
  const [film] = films;
  if (film === undefined) return { heads: [], rows: [] };
  if (films.length === 1) {
    return { heads: [t("Step"), t("Phase"), t("Operation"), t("Fields"), t("Answer"), t("Result")], rows: film.steps.filter((step) => step.n > 0).map((step) => [String(step.n), step.phase ?? "", step.op ?? "", step.fields ?? "", answer(step), step.result ?? ""]) };
  }
  const rows = numbers.map((n) => [String(n), stepAt(film, n)?.op ?? "", ...films.map((each) => answer(each.steps.find((step) => step.n === n)))]);
  return { heads: [t("Step"), t("Operation"), ...films.map((each) => t("{each} answered", { each: each.name }))], rows };
}

const sign = (look: string): string => SIGNS[look] ?? look.toUpperCase();

/** The frames as tiles: the owner's letter and colour, the frame's number, a mark on what changed. */
export function tiles(rows: readonly Row[]): Drawing {
  const svg = rows.map((row, i) => {
    const changed = row.mark === "changed";
    const [x, y] = [4 + WIDE * (i % ACROSS), 4 + HIGH * Math.floor(i / ACROSS)];
    return `<g class="replay-tile" data-look="${xml(row.look)}"${changed ? " data-changed" : ""} transform="translate(${x} ${y})"><rect width="84" height="36" rx="3"/>` +
      `<text x="42" y="23" text-anchor="middle">${xml(sign(row.look))}</text><text class="replay-mfn" x="42" y="51" text-anchor="middle">${changed ? "▲ " : ""}${xml(row.cells[0] ?? "")}</text></g>`;
  }).join("");
  return { width: 8 + WIDE * Math.max(1, Math.min(rows.length, ACROSS)), height: 8 + HIGH * Math.ceil(rows.length / ACROSS), svg };
}

export class ReplayView {
  private readonly films: Film[];
  private readonly numbers: number[];
  private readonly play: HTMLButtonElement;
  private readonly slider: HTMLInputElement;
  private timer: ReturnType<typeof setInterval> | undefined;
  private step: number;

  constructor(private readonly root: HTMLElement) {
    this.films = [0, 1].map((i) => root.querySelector(`#film-${i}`)?.textContent).filter((text) => text != null).map((text) => JSON.parse(text) as Film);
    this.numbers = numbersOf(this.films);
    this.step = Number(root.dataset["step"]);
    this.play = button(t("Play"), () => this.toggle());
    this.play.className = "button";
    this.slider = el("input", { type: "range", min: "0", max: String(this.numbers.length - 1), "aria-label": t("Step of the attack") });
    this.slider.addEventListener("input", () => this.go(this.numbers[Number(this.slider.value)] ?? 0));
    const controls = root.querySelector<HTMLElement>("[data-part=controls]");
    controls?.append(this.play, this.slider);
    const title = t("{attack} on {machines}", { attack: `${this.films[0]?.attack ?? ""} ${this.films[0]?.title ?? ""}`, machines: this.films.map((film) => film.name).join(` ${t("and")} `) });
    root.querySelector(".panel-header")?.append(el("div", { class: "actions" }, linkButton(t("Link to this step"), () => location.href), takeAway({
      root, name: `replay-${root.dataset["name"] ?? ""}`, title,
      sheet: () => sheetOf(this.films), json: () => this.films, picture: () => this.picture(),
    })));
    root.addEventListener("click", (event) => this.follow(event));
    document.addEventListener("keydown", (event) => this.key(event));
    this.draw();
  }

  /** A link to a step of this replay steps here; with a modifier key it stays a link. */
  private follow(event: MouseEvent): void {
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("a[href^='?']") : null;
    const n = link === null ? null : new URL(link.href).searchParams.get("step");
    if (link === null || n === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const to = link.dataset["go"];
    this.go(to === "back" ? this.beside(-1) : to === "on" ? this.beside(1) : Number(n));
  }

  private beside(by: number): number {
    const place = this.numbers.indexOf(this.step) + by;
    return this.numbers[Math.min(Math.max(place, 0), this.numbers.length - 1)] ?? 0;
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target instanceof HTMLElement ? event.target : null;
    if (target?.closest("input:not([type=range]), textarea, select") != null) return;
    const taken = target?.closest("input, button, summary, .take-away, .table-scroll, .replay-list, form") != null && target.closest("[data-part=controls] a") === null;
    const to = { ",": this.beside(-1), ".": this.beside(1), ArrowLeft: this.beside(-1), ArrowRight: this.beside(1), Home: 0, End: this.numbers.at(-1) ?? 0 }[event.key];
    if (to === undefined || (taken && event.key !== "," && event.key !== ".")) return;
    event.preventDefault();
    const inList = target?.closest(".replay-list a") != null;
    this.go(to);
    if (inList) this.root.querySelector<HTMLElement>(".replay-list li[aria-current] a")?.focus({ preventScroll: true });
  }

  private toggle(): void {
    if (this.timer !== undefined) return this.stop();
    if (this.step === this.numbers.at(-1)) this.show(0);
    this.timer = setInterval(() => {
      this.show(this.beside(1));
      if (this.step === this.numbers.at(-1)) this.stop();
    }, PLAY_MS);
    this.play.textContent = t("Pause");
    this.play.setAttribute("aria-label", t("Pause"));
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.play.textContent = t("Play");
    this.play.setAttribute("aria-label", t("Play"));
  }

  private go(step: number): void {
    this.stop();
    this.show(step);
  }

  private show(step: number): void {
    this.step = this.numbers.findLast((n) => n <= step) ?? 0;
    const url = new URL(location.href);
    url.searchParams.set("step", String(this.step));
    history.replaceState(null, "", url);
    this.draw();
  }

  private draw(): void {
    this.root.dataset["step"] = String(this.step);
    this.slider.value = String(this.numbers.indexOf(this.step));
    this.slider.setAttribute("aria-valuetext", t("step {step} of {total}", { step: this.step, total: this.films[0]?.total ?? 0 }));
    this.say("[data-part=both]", both(this.films, this.step));
    this.say("[data-part=n]", String(this.step));
    this.films.forEach((film, i) => {
      const step = stepAt(film, this.step);
      const place = this.root.querySelector<HTMLElement>(`[data-film="${i}"]`);
      if (step === undefined || place === null) return;
      this.root.dataset["op"] = String(step.at);
      this.say(this.films.length === 1 ? "[data-part=says]" : `[data-film="${i}"] [data-part=says]`, step.says);
      for (const part of PARTS) {
        const rows = step[part].map((id) => film.rows[id]).filter((row) => row !== undefined);
        const body = place.querySelector(`[data-part=${part}]`);
        const heads = [...body?.closest("table")?.querySelectorAll("thead th") ?? []].map((head) => head.textContent ?? "");
        const shown = rows.length === 0 ? [{ cells: [t("none")], mark: "" }] : rows;
        body?.replaceChildren(...shown.map((row) =>
          el("tr", row.mark === "" ? {} : { "data-mark": row.mark }, ...row.cells.map((cell, i) => el("td", row.cells.length === 1 ? { colspan: String(heads.length) } : { "data-label": heads[i] ?? "" }, cell)))));
        if (part === "frames") this.map(place, rows);
      }
    });
    for (const row of this.root.querySelectorAll<HTMLElement>("[data-n]")) {
      const now = Number(row.dataset["n"]) === this.step;
      if (now) row.setAttribute("aria-current", "step");
      else row.removeAttribute("aria-current");
      const link = row.querySelector("a");
      // One stop for Tab in a script of a hundred steps: the current one.
      if (link !== null) link.tabIndex = now ? 0 : -1;
      const list = row.closest<HTMLElement>(".replay-list, .replay-steps");
      if (now && list !== null) list.scrollTop = row.getBoundingClientRect().top - list.getBoundingClientRect().top + list.scrollTop - list.clientHeight / 2;
    }
  }

  private map(place: HTMLElement, rows: readonly Row[]): void {
    const svg = place.querySelector("[data-part=map] svg");
    if (svg !== null) svg.innerHTML = tiles(rows).svg;
  }

  private say(where: string, words: string): void {
    const place = this.root.querySelector(where);
    if (place !== null && place.textContent !== words) place.textContent = words;
  }

  /** The steps as a table, the present one marked, and below it what each machine holds after that step. */
  private picture(): Drawing {
    const { heads, rows } = sheetOf(this.films);
    const short = (text: string): string => (text.length > 60 ? `${text.slice(0, 57)}...` : text);
    const text = (cell: Element): string => short(cell.textContent?.trim() ?? "");
    const state = [...this.root.querySelectorAll<HTMLTableElement>("[data-film] table")].map((each) => tableDrawing(
      [...each.querySelectorAll("thead th")].map(text),
      [...each.querySelectorAll<HTMLElement>("tbody tr")].map((row) => [...row.children].map((cell) => ({ text: text(cell), ...(row.dataset["mark"] ? { fill: "#fdebc8" } : {}) })))));
    const steps = tableDrawing(heads, rows.map((row) => row.map((each) => ({ text: short(each), ...(row[0] === String(this.step) ? { fill: "#d7e3f7" } : {}) }))));
    return below([steps, ...state]);
  }
}
