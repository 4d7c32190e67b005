/** The page of a lab: the editor comes when there is one to fill, checks while one types, keeps the draft, and runs without leaving the page. */

import type { Editor, Fault } from "./lab_editor";
import { el } from "./dom";
import { say, t } from "./words";

interface Row { line: number; phase: string; depth: number; op: string; fields: string; bind: string }
interface Checked { ok: boolean; faults: Fault[]; outline: Row[] }

const WAIT_CHECK = 400, WAIT_SAVE = 1500;  // ms without a further key
const LOOKS = [700, 1000, 1500, 2500, 4000, 8000];  // ms between looks for a result, where the socket does not tell

class Lab {
  private editor: Editor | null = null;
  private checkTimer = 0;
  private saveTimer = 0;
  private checking: AbortController | null = null;
  private readonly area: HTMLTextAreaElement;
  private readonly address: string;
  private saved: string;
  private readonly key: string;  // under which this tab keeps what the server has not confirmed

  constructor(private readonly form: HTMLFormElement) {
    this.area = form.querySelector("[data-part=text]") as HTMLTextAreaElement;
    this.address = `/api/items/${form.dataset["item"] ?? ""}/lab`;
    this.saved = this.area.value;
    this.key = `lab-${form.dataset["item"] ?? ""}`;
    this.area.value = sessionStorage.getItem(this.key) ?? this.saved;
    this.area.addEventListener("input", () => this.changed());
    form.addEventListener("submit", (event) => void this.submit(event));
    document.querySelector("[data-part=outline]")?.addEventListener("click", (event) => this.follow(event));
    addEventListener("pagehide", () => void this.save(true));
    void this.open();
  }

  private async open(): Promise<void> {
    const { Editor } = await import("./lab_editor");
    this.editor = new Editor(this.area, () => this.changed());
    this.form.dataset["state"] = "editor";
    void this.check();
    void this.save();
  }

  private changed(): void {
    sessionStorage.setItem(this.key, this.area.value);
    this.status("");
    clearTimeout(this.checkTimer);
    clearTimeout(this.saveTimer);
    this.checkTimer = window.setTimeout(() => void this.check(), WAIT_CHECK);
    this.saveTimer = window.setTimeout(() => void this.save(), WAIT_SAVE);
  }

  private async send(method: string, path: string, body: object, signal?: AbortSignal): Promise<Response> {
    const token = this.form.querySelector<HTMLInputElement>("[name=csrfmiddlewaretoken]")?.value ?? "";
    return fetch(this.address + path, {
      method, headers: { "Content-Type": "application/json", "X-CSRFToken": token }, body: JSON.stringify(body), keepalive: path === "/draft", ...(signal && { signal }),
    });
  }

  /** Reads the text on the server: one place knows the language. */
  private async check(): Promise<void> {
    this.checking?.abort();
    const mine = this.checking = new AbortController();
    try {
      const answer = await this.send("POST", "/check", { text: this.area.value }, mine.signal);
      if (!answer.ok) return;
      const found = await answer.json() as Checked;
      this.tell(found.faults);
      if (found.ok) this.outline(found.outline);
    } catch {
      // Offline, or overtaken by a later change: what stood there still stands.
    }
  }

  private tell(faults: readonly Fault[]): void {
    const part = this.form.querySelector("[data-part=fault]");
    const [first] = faults;
    if (part !== null) part.textContent = first === undefined ? "" : t("Line {line}, column {column}: {reason}.", { line: first.line, column: first.column, reason: say(first.reason) });
    this.editor?.mark(faults);
  }

  private outline(rows: readonly Row[]): void {
    const part = document.querySelector("[data-part=outline]");
    if (part === null) return;
    const list = el("div", { class: "lab-outline", tabindex: "0", role: "group", "aria-label": t("Steps of the file, scrolls") });
    let steps = el("ol");
    rows.forEach((row, i) => {
      if (row.phase !== rows[i - 1]?.phase) list.append(el("h3", {}, say(row.phase)), steps = el("ol"));
      const go = el("button", { type: "button", class: "link", "data-line": String(row.line), "aria-label": t("Line {line}: {op}", { line: row.line, op: row.op }) }, String(row.line));
      steps.append(el("li", { "data-depth": String(row.depth) }, go, " ", el("span", { class: "mono" }, row.op), " ", el("small", { class: "mono" }, row.fields + (row.bind === "" ? "" : ` → ${row.bind}`))));
    });
    part.replaceChildren(list);
  }

  private follow(event: Event): void {
    const line = event.target instanceof HTMLElement ? event.target.closest<HTMLElement>("[data-line]")?.dataset["line"] : undefined;
    if (line !== undefined) this.editor?.go(Number(line));
  }

  private async save(leaving = false): Promise<void> {
    const text = this.area.value;
    if (text === this.saved) return;
    if (leaving) clearTimeout(this.saveTimer);
    try {
      const answer = await this.send("PUT", "/draft", { text });
      if (answer.ok) this.keptAt(text);
      this.status(answer.ok ? t("Saved") : t("Not saved yet"));
    } catch {
      this.status(t("Not saved yet: the server cannot be reached"));
    }
  }

  /** The server has this text. */
  private keptAt(text: string): void {
    this.saved = text;
    if (sessionStorage.getItem(this.key) === text) sessionStorage.removeItem(this.key);
  }

  private status(words: string): void {
    const part = this.form.querySelector("[data-part=saved]");
    if (part !== null) part.textContent = words;
  }

  /** Run and hand in stay on the page; all else, and whatever is refused in another way, goes the way without script. */
  private async submit(event: SubmitEvent): Promise<void> {
    const act = event.submitter instanceof HTMLButtonElement ? event.submitter.value : "";
    clearTimeout(this.saveTimer);
    const text = this.area.value;
    if (act !== "run" && act !== "hand_in") return this.keptAt(text);  // every button sends the text along
    event.preventDefault();
    const seed = (this.form.elements.namedItem("seed") as HTMLInputElement).value.trim();
    const body = act === "run" ? { text, seed: Number(seed === "" ? "0" : seed) } : { text, graded: true };
    try {
      const answer = await this.send("POST", "/attempts", body);
      if (answer.status !== 202) return await this.refused(answer, act);
      this.keptAt(text);
      this.status(t("Saved"));
      const { id } = await answer.json() as { id: number };
      await this.renew();
      document.getElementById("attempts")?.focus();
      await this.await(id);
    } catch {
      this.status(t("Not sent: the server cannot be reached. Your file is still here."));
    }
  }

  private async refused(answer: Response, act: string): Promise<void> {
    const told = await answer.json() as { message?: string; faults?: { path: string; reason: string }[] };
    const fault = told.faults?.find(({ path }) => path === "$.text");
    const place = /^line (\d+), column (\d+): (.*)$/s.exec(fault?.reason ?? "");
    if (place === null) {
      const part = this.form.querySelector("[data-part=fault]");
      if (part !== null) part.textContent = say(told.faults?.[0]?.reason ?? told.message ?? t("It was refused."));
      return;
    }
    this.tell([{ line: Number(place[1]), column: Number(place[2]), reason: place[3] ?? "" }]);
    this.editor?.go();
    this.status(act === "run" ? t("Nothing was run.") : t("Nothing was handed in."));
  }

  /** The goals and attempts, as the server has them now. */
  private async renew(): Promise<void> {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const [old, fresh] = [document.getElementById("attempts"), page.getElementById("attempts")];
    if (old === null || fresh === null) return;
    old.replaceChildren(...fresh.childNodes);
    old.dataset["seq"] = fresh.dataset["seq"] ?? "";
  }

  /** The socket renews the part as soon as the result is there; these looks are for where there is no socket. */
  private async await(id: number): Promise<void> {
    for (const wait of LOOKS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (document.querySelector("#attempts [data-attempt-state=waiting]") === null) return;
      const answer = await fetch(`/api/attempts/${id}`);
      const { state } = await answer.json() as { state: string };
      if (state !== "waiting") return this.renew();
    }
  }
}

const form = document.querySelector<HTMLFormElement>("form[data-view=lab]");
if (form !== null) new Lab(form);
