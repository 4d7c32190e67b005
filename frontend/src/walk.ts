/** The nested page walk: the server drew it at one step; here the same drawing is stepped, played and read by keys. */

import { button, el } from "./dom";
import { takeAway, type Drawing } from "./take_away";
import { t } from "./words";

export interface Reference { order: number; says: string; bits: string; of: string; mfn: number; entry: string; perm: string; skipped: boolean; fault: boolean }
export interface Facts { says: string | null; bits: string; mfn: string; entry: string; perm: string; count: string }

/** What stands beside the drawing after `step` references; `says` is null before the first. */
export function factsAt(references: readonly Reference[], step: number): Facts {
  const now = references[step - 1];
  const saved = references.slice(0, step).filter((each) => each.skipped).length;
  const count = t("{made} made, {saved} saved", { made: step - saved, saved });
  if (now === undefined) return { says: null, bits: t("none yet"), mfn: "", entry: "", perm: "", count };
  return { says: now.says, bits: t("{bits} of the {of}", { bits: now.bits, of: now.of }), mfn: String(now.mfn), entry: now.entry, perm: now.perm || t("nothing: not present"), count };
}

export const stateOf = (order: number, step: number): string => (order < step ? "done" : order === step ? "now" : "coming");

const PLAY_MS = 900;

/** Colours of a drawing on white: those of the strip of all steps. */
const FILLS: Record<string, [string, string]> = { done: ["#d7e3f7", "#14181f"], now: ["#1f4fbf", "#ffffff"], coming: ["#ffffff", "#6b7280"] };

export class WalkView {
  private readonly references: readonly Reference[];
  private readonly start: string;
  private readonly play: HTMLButtonElement;
  private readonly slider: HTMLInputElement;
  private readonly dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  private timer: ReturnType<typeof setInterval> | undefined;
  private step: number;

  constructor(private readonly root: HTMLElement) {
    this.references = JSON.parse(root.querySelector("#walk-data")?.textContent ?? "[]") as Reference[];
    this.step = Number(root.dataset["step"]);
    this.start = root.dataset["start"] ?? "";
    this.play = button(t("Play"), () => this.toggle());
    this.slider = el("input", { type: "range", min: "0", max: String(this.references.length), "aria-label": t("Step of the walk") });
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    const controls = root.querySelector<HTMLElement>("[data-part=controls]");
    controls?.append(this.play, this.slider);
    controls?.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest<HTMLElement>("a[data-step]") : null;
      if (link === null) return;
      event.preventDefault();
      this.go(this.target(link.dataset["step"] ?? "0"));
    });
    root.querySelector("[data-part=files]")?.append(this.menu());
    document.addEventListener("keydown", (event) => this.key(event));
    this.dot.setAttribute("r", "6");
    this.dot.setAttribute("class", "walk-dot");
    root.querySelector("svg.walk")?.append(this.dot);
    this.draw();
  }

  private menu(): HTMLElement {
    const title = (): string => t("Nested page walk, {title}, step {step} of {references}", { title: this.root.querySelector("h2")?.textContent ?? "", step: this.step, references: this.references.length });
    const step = (): number => this.step;
    const heads = ["order", "says", "bits", "of", "mfn", "entry", "perm", "skipped", "fault"] as const;
    return takeAway({
      root: this.root, get title() { return title(); }, get name() { return `walk-step-${step()}`; },
      json: () => ({ step: this.step, references: this.references }), picture: () => this.drawing(),
      sheet: () => ({ heads: [...heads], rows: this.references.map((row) => heads.map((name) => String(row[name]))) }),
    });
  }

  /** The drawing as it stands, in colours for white paper instead of the theme's. */
  private drawing(): Drawing {
    const copy = this.root.querySelector("svg.walk")?.cloneNode(true) as SVGElement;
    for (const part of copy.querySelectorAll("title, desc, .walk-dot")) part.remove();
    for (const text of copy.querySelectorAll("text")) text.setAttribute("fill", "#14181f");
    for (const node of copy.querySelectorAll<SVGElement>(".walk-ref")) {
      const [fill, ink] = FILLS[node.dataset["state"] ?? ""] ?? ["#ffffff", "#14181f"];
      for (const [name, value] of Object.entries({ fill, stroke: "#30363d", ...("saved" in node.dataset ? { "stroke-dasharray": "3 3" } : {}) })) node.querySelector("rect")?.setAttribute(name, value);
      node.querySelector("text")?.setAttribute("fill", ink);
    }
    return { width: 620, height: 336, svg: copy.innerHTML };
  }

  private target(name: string): number {
    if (name === "back") return this.step - 1;
    return name === "on" ? this.step + 1 : Number(name);
  }

  private key(event: KeyboardEvent): void {
    const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, a, button, [role=group]:focus") !== null;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ",": this.step - 1, ".": this.step + 1, ArrowLeft: this.step - 1, ArrowRight: this.step + 1, Home: 0, End: this.references.length }[event.key];
    if (to === undefined || (typing && event.key !== "," && event.key !== ".")) return;
    event.preventDefault();
    this.go(to);
  }

  private toggle(): void {
    if (this.timer !== undefined) return this.stop();
    if (this.step === this.references.length) this.show(0);
    this.timer = setInterval(() => {
      this.show(this.step + 1);
      if (this.step === this.references.length) this.stop();
    }, PLAY_MS);
    this.play.textContent = t("Pause");
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.play.textContent = t("Play");
  }

  private go(step: number): void {
    this.stop();
    this.show(step);
  }

  private show(step: number): void {
    this.step = Math.min(Math.max(step, 0), this.references.length);
    const url = new URL(location.href);
    url.searchParams.set("step", String(this.step));
    history.replaceState(null, "", url);
    this.draw();
  }

  private draw(): void {
    const facts = factsAt(this.references, this.step);
    this.root.dataset["step"] = String(this.step);
    this.slider.value = String(this.step);
    for (const [part, words] of Object.entries({ ...facts, says: facts.says ?? this.start })) {
      const place = this.root.querySelector(`[data-part=${part}]`);
      if (place !== null && place.textContent !== words) place.textContent = words;
    }
    for (const node of this.root.querySelectorAll<SVGElement>(".walk-ref")) {
      const order = Number(node.dataset["order"]);
      node.dataset["state"] = stateOf(order, this.step);
      if (order === this.step) this.dot.style.transform = `translate(${Number(node.dataset["x"]) + 40}px, ${node.dataset["y"] ?? 0}px)`;
    }
    this.dot.setAttribute("visibility", this.step === 0 ? "hidden" : "visible");
    for (const row of document.querySelectorAll<HTMLElement>("tr[data-order]")) {
      if (Number(row.dataset["order"]) === this.step) row.setAttribute("aria-current", "step");
      else row.removeAttribute("aria-current");
    }
  }
}
