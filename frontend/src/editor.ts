/** The page on which a teacher writes an item: an editor that checks while one types, places blocks, and keeps what is not saved in this tab. */

import { el } from "./dom";
import { blockAt, placeFor } from "./editor_blocks";
import type { Editor, Fault } from "./lab_editor";
import { say, t } from "./words";

const WAIT_CHECK = 400;  // ms without a further key

class ItemEditor {
  private editor: Editor | null = null;
  private checkTimer = 0;
  private checking: AbortController | null = null;
  private readonly area: HTMLTextAreaElement;
  private readonly saved: string | null;  // the text as it is saved; null: what came with the page is not
  private readonly key: string;  // under which this tab keeps what is typed over this version

  constructor(private readonly form: HTMLFormElement) {
    this.area = form.querySelector("[data-part=text]") as HTMLTextAreaElement;
    this.saved = form.dataset["unsaved"] === undefined ? this.area.value : null;
    const of = `item-${form.dataset["item"] ?? ""}-`;
    this.key = of + (form.dataset["seen"] ?? "");
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(of) && key !== this.key) sessionStorage.removeItem(key);
    const kept = sessionStorage.getItem(this.key);
    if (this.saved === null) sessionStorage.setItem(this.key, this.area.value);
    else if (kept !== null && kept !== this.saved) this.restore(kept);
    this.area.addEventListener("input", () => this.changed());
    form.addEventListener("click", (event) => this.place(event));
    document.querySelector("[data-part=theirs]")?.addEventListener("click", () => sessionStorage.removeItem(this.key));
    void this.open();
  }

  private restore(kept: string): void {
    this.area.value = kept;
    const back = el("button", { type: "button", class: "button" }, t("Take the saved text instead"));
    back.addEventListener("click", () => {
      sessionStorage.removeItem(this.key);
      location.reload();
    });
    this.form.before(el("div", { class: "notice notice-info", role: "status" }, el("p", {}, t("What you had typed here and not saved is back.")), back));
    this.status(t("Not saved yet"));
  }

  private async open(): Promise<void> {
    const { Editor } = await import("./lab_editor");
    const language = this.form.dataset["language"] === "markdown" ? "markdown" : "yaml";
    const save = (): void => this.form.requestSubmit(this.form.querySelector<HTMLElement>("[data-part=save]"));
    this.editor = new Editor(this.area, () => this.changed(), { label: t("Text"), language, complete: false, save });
    this.form.dataset["state"] = "editor";
    void this.check();
  }

  private changed(): void {
    if (this.area.value === this.saved) sessionStorage.removeItem(this.key);
    else sessionStorage.setItem(this.key, this.area.value);
    this.status(t("Not saved yet"));
    clearTimeout(this.checkTimer);
    this.checkTimer = window.setTimeout(() => void this.check(), WAIT_CHECK);
  }

  private status(words: string): void {
    const part = this.form.querySelector("[data-part=saved]");
    if (part !== null) part.textContent = words;
  }

  /** Reads the text on the server: one place knows the language. */
  private async check(): Promise<void> {
    this.checking?.abort();
    const mine = this.checking = new AbortController();
    const token = this.form.querySelector<HTMLInputElement>("[name=csrfmiddlewaretoken]")?.value ?? "";
    try {
      const answer = await fetch(`/api/items/${this.form.dataset["item"] ?? ""}/check`, {
        method: "POST", headers: { "Content-Type": "application/json", "X-CSRFToken": token }, body: JSON.stringify({ text: this.area.value }), signal: mine.signal,
      });
      if (answer.status === 401) return this.status(t("Your sign-in has ended. Save, and you are asked to sign in again; the text is kept."));
      if (answer.ok) this.tell((await answer.json() as { faults: Fault[] }).faults);
    } catch {
      // Offline, or overtaken by a later change: what stood there still stands.
    }
  }

  private tell(faults: readonly Fault[]): void {
    const rows = faults.map((fault) => {
      const go = el("button", { type: "button", class: "link" }, t("Line {line}, column {column}: {reason}.", { line: fault.line, column: fault.column, reason: say(fault.reason) }));
      go.addEventListener("click", () => this.editor?.go(fault.line));
      return el("li", {}, go);
    });
    this.form.querySelector("[data-part=faults]")?.replaceChildren(...rows);
    this.editor?.mark(faults);
  }

  /** A block goes to the cursor; without this script the button puts it at the end. */
  private place(event: MouseEvent): void {
    const button = event.target instanceof Element ? event.target.closest<HTMLButtonElement>("[data-block]") : null;
    if (button === null || this.editor === null) return;
    event.preventDefault();
    const text = this.editor.text;
    const at = placeFor(text, this.editor.cursor);
    this.editor.insert(at, blockAt(text, at, button.dataset["block"] ?? ""));
  }
}

const form = document.querySelector<HTMLFormElement>("form[data-view=item-editor]");
if (form !== null) new ItemEditor(form);
