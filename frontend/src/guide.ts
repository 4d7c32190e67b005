/** On every page: the list that `?` opens, the switch for single keys, and the tour where first steps stand. An entry of its own: no view needs it. */

const OFF = "single-keys-off";
const FIELD = "input, textarea, select, [contenteditable]";
const FOCUSABLE = "a[href], button:not([disabled]), input:not([disabled]), select, textarea, summary, [tabindex='0']";

interface Stop { at: string; title: string; says: string }

/** Where somebody types, or a view takes the keys, they are not ours. */
const typing = (target: EventTarget | null): boolean =>
  target instanceof Element && target.closest(`${FIELD}, [role=application]`) !== null;

const off = (): boolean => {
  try { return localStorage.getItem(OFF) === "1"; } catch { return false; } // storage may be forbidden; the keys then stay on
};

function singleKeys(dialog: HTMLDialogElement): void {
  const box = dialog.querySelector<HTMLInputElement>("[data-part=single-keys]");
  if (box === null) return;
  box.checked = !off();
  box.addEventListener("change", () => {
    try { localStorage.setItem(OFF, box.checked ? "0" : "1"); } catch { box.checked = true; }
  });
}

function keyList(): void {
  const dialog = document.querySelector<HTMLDialogElement>("dialog[data-part=keys]");
  if (dialog === null) return;
  singleKeys(dialog);
  // Before all other listeners: with single keys off, none of them hears a printable key (WCAG 2.1.4).
  window.addEventListener("keydown", (event) => {
    if (event.key.length !== 1 || event.key === " " || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target instanceof Element && event.target.closest(FIELD) !== null) return;
    if (off()) event.stopImmediatePropagation();
    else if (event.key === "?" && !dialog.open) {
      event.preventDefault();
      dialog.showModal();
    }
  }, true);
}

/** The tour of one area: a box beside which the shown control stays in its place and in the order of Tab. */
class Tour {
  private readonly box = document.createElement("section");
  private readonly heading = document.createElement("h2");
  private readonly text = document.createElement("p");
  private readonly count = document.createElement("p");
  private readonly back: HTMLButtonElement;
  private readonly next: HTMLButtonElement;
  private readonly end: HTMLButtonElement;
  private readonly opener: Element | null = document.activeElement;
  private target: HTMLElement | null = null;
  private readonly onKey = (event: KeyboardEvent): void => this.key(event);
  /** A part of the page that is followed live is put there anew: the shown control is looked up again. */
  private readonly watch = new MutationObserver(() => { if (this.target?.isConnected === false) this.mark(); });

  constructor(private readonly stops: Stop[], private at: number, private readonly words: DOMStringMap, private readonly keep: (stop: number) => void) {
    this.back = this.button(words["back"] ?? "", () => this.go(this.at - 1));
    this.next = this.button(words["next"] ?? "", () => this.go(this.at + 1));
    this.end = this.button(words["end"] ?? "", () => this.close());
    this.heading.tabIndex = -1;
    this.heading.id = "tour-title";
    this.count.className = "muted";
    this.box.setAttribute("role", "dialog");
    this.box.setAttribute("aria-labelledby", this.heading.id);
    const actions = document.createElement("div");
    actions.className = "actions";
    actions.append(this.next, this.back, this.end);
    this.box.append(this.heading, this.text, this.count, actions);
    document.body.append(this.box);
    document.addEventListener("keydown", this.onKey);
    this.watch.observe(document.body, { childList: true, subtree: true });
    this.go(at);
  }

  private button(name: string, press: () => void): HTMLButtonElement {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "button";
    made.textContent = name;
    made.addEventListener("click", press);
    return made;
  }

  private go(to: number): void {
    if (to >= this.stops.length) { this.close(-1); return; }
    this.at = Math.max(0, to);
    const stop = this.stops[this.at];
    if (stop === undefined) return;
    this.heading.textContent = stop.title;
    this.text.textContent = stop.says;
    this.count.textContent = (this.words["count"] ?? "").replace("%(at)s", String(this.at + 1)).replace("%(of)s", String(this.stops.length));
    this.back.disabled = this.at === 0;
    this.next.textContent = (this.at === this.stops.length - 1 ? this.words["finish"] : this.words["next"]) ?? "";
    this.mark();
    this.heading.focus({ preventScroll: true });
    this.keep(this.at);
  }

  private mark(): void {
    this.target?.classList.remove("tour-target");
    this.target = find(this.stops[this.at]?.at ?? "");
    this.target?.classList.add("tour-target");
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.target?.scrollIntoView({ block: "nearest", behavior: still ? "instant" : "smooth" });
    this.place();
    document.addEventListener("scrollend", () => this.place(), { once: true });
  }

  /** Into the first corner in which it covers nothing of what it shows. */
  private place(): void {
    const shown = this.target?.getBoundingClientRect();
    for (const corner of ["", "tour-far", "tour-high tour-far", "tour-high"]) {
      this.box.className = `tour ${corner}`.trim();
      const own = this.box.getBoundingClientRect();
      if (shown === undefined || own.right < shown.left || own.left > shown.right || own.bottom < shown.top || own.top > shown.bottom) return;
    }
  }

  private key(event: KeyboardEvent): void {
    if (document.querySelector("dialog[open]") !== null) return;
    if (event.key === "Escape") this.close();
    else if (event.key === "Tab") this.tab(event);
    else if (typing(event.target)) return;
    else if (event.key === "ArrowRight" || event.key === "ArrowDown") this.go(this.at + 1);
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") this.go(this.at - 1);
    else return;
    if (event.key !== "Tab") { event.preventDefault(); event.stopPropagation(); }
  }

  /** From the box's last button Tab leads to the shown control, and back from it with Shift. */
  private tab(event: KeyboardEvent): void {
    const shown = this.target?.matches(FOCUSABLE) === true ? this.target : this.target?.querySelector<HTMLElement>(FOCUSABLE);
    if (shown === null || shown === undefined) return;
    const from = document.activeElement;
    const to = !event.shiftKey && from === this.end ? shown : event.shiftKey && from === shown ? this.end : null;
    if (to === null) return;
    event.preventDefault();
    to.focus();
  }

  private close(stop = this.at): void {
    this.watch.disconnect();
    document.removeEventListener("keydown", this.onKey);
    this.target?.classList.remove("tour-target");
    this.box.remove();
    this.keep(stop);
    if (this.opener instanceof HTMLElement && this.opener.isConnected) this.opener.focus();
    else document.querySelector<HTMLElement>("[data-part=tour-begin]")?.focus();
  }
}

/** The first visible element of the first selector that has one; a list of selectors is tried in its own order. */
function find(selectors: string): HTMLElement | null {
  for (const selector of selectors.split(", ")) {
    const all = selector === "" ? [] : [...document.querySelectorAll<HTMLElement>(selector)];
    const seen = all.find((element) => element.checkVisibility() && element.closest(".first-steps") === null);
    if (seen !== undefined) return seen;
  }
  return null;
}

/** Begins at the link's press and never by itself. Stops whose control is not on the page are left out. */
function tour(): void {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("[data-part=tour-begin]") : null;
    const form = link?.closest("form") ?? null;
    const data = document.getElementById("tour-stops");
    if (link === null || form === null || data === null) return;
    event.preventDefault();
    if (document.querySelector(".tour") !== null) return;
    if (link instanceof HTMLElement) link.focus();
    const all = JSON.parse(data.textContent ?? "[]") as Stop[];
    const here = all.filter((stop) => find(stop.at) !== null);
    const keep = (at: number): void => {
      const shown = here[at];
      const stop = shown === undefined ? -1 : all.indexOf(shown);
      form.dataset["stop"] = String(stop);
      const body = new FormData(form);
      body.set("stop", String(stop));
      // Not kept when offline: the tour then begins where it was last kept.
      fetch(form.action, { method: "POST", body }).catch(() => undefined);
    };
    const begun = all[Number(form.dataset["stop"])];
    const words = document.querySelector<HTMLElement>("[data-part=tour-words]")?.dataset ?? {};
    new Tour(here, Math.max(0, begun === undefined ? 0 : here.indexOf(begun)), words, keep);
  });
}

keyList();
tour();
