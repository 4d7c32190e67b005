/** The editor of files, in the attack lab and where teachers write: CodeMirror in a shadow root (its style sheets are then no inline styles), kept equal to the form's own textarea. */

import { autocompletion, completionKeymap, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, StreamLanguage, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { choices } from "./lab_complete";
import { say, t } from "./words";

export interface Fault { line: number; column: number; reason: string }

const THEME = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--surface)", border: "1px solid var(--line-control)", borderRadius: "var(--radius)", fontSize: "0.875rem" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "2px" },
  ".cm-scroller": { fontFamily: "'JetBrains Mono Variable', monospace", lineHeight: "1.5", minHeight: "20rem", maxHeight: "36rem", overflow: "auto" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--surface-sunken)", color: "var(--muted)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--accent-surface)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "color-mix(in srgb, var(--accent) 30%, transparent)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--text)", border: "1px solid var(--line-control)", borderRadius: "var(--radius)" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionDetail": { color: "inherit", fontStyle: "normal", opacity: "0.85" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--violation)" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--violation)" },
  ".cm-lint-marker-error": { content: "none", width: "0.6rem", height: "0.6rem", borderRadius: "50%", backgroundColor: "var(--violation)" },
});
const LOOK = HighlightStyle.define([
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
  { tag: tags.heading, fontWeight: "600" },
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
]);

interface Marked { fenced: boolean; head: boolean }
/** Markdown as lessons have it: headings, and the YAML of the head and of fenced blocks. */
const lessonText = StreamLanguage.define<Marked>({
  name: "lesson",
  startState: () => ({ fenced: false, head: false }),
  token(stream, state) {
    if (stream.sol()) {
      if (stream.match(/^(```.*|---\s*)$/)) {
        state.fenced = !state.fenced;
        return "comment";
      }
      if (!state.fenced && stream.match(/^#{1,6} .*/)) return "heading";
    }
    if (state.fenced && stream.match(/^[\s{-]*[a-z_]+(?=:)/i)) return "propertyName";
    stream.skipToEnd();
    return null;
  },
});

export interface Options { label: string; language: "yaml" | "markdown"; complete: boolean; save?: () => void }
const LAB: Options = { label: "", language: "yaml", complete: true };

function complete(context: CompletionContext): CompletionResult | null {
  const line = context.state.doc.lineAt(context.pos);
  const head = line.text.slice(0, context.pos - line.from);
  const { from, found } = choices(context.state.doc.toString().split("\n"), line.number - 1, head);
  if (found.length === 0 || (!context.explicit && from === head.length && !/: $|- $|\$$/.test(head))) return null;
  return { from: line.from + from, options: found.map(({ label, detail, apply }) => ({ label, detail, apply })), validFor: /^[\w$.]*$/ };
}

export class Editor {
  private readonly view: EditorView;
  private faults: readonly Fault[] = [];

  /** Takes the place of the textarea, which goes on holding the text for the form. */
  constructor(area: HTMLTextAreaElement, changed: () => void, { label, language, complete: completes, save } = LAB) {
    const host = document.createElement("div");
    host.className = "lab-code";
    const root = host.attachShadow({ mode: "open", delegatesFocus: true });
    area.before(host);
    const words = label || t("Attack file");
    this.view = new EditorView({
      root, parent: root,
      state: EditorState.create({
        doc: area.value,
        extensions: [
          lineNumbers(), history(), drawSelection(), highlightActiveLine(), language === "yaml" ? yaml() : [lessonText, EditorView.lineWrapping], indentUnit.of("  "), EditorState.tabSize.of(2), lintGutter(),
          syntaxHighlighting(LOOK), completes ? autocompletion({ override: [complete] }) : [], THEME,
          keymap.of([...(save === undefined ? [] : [{ key: "Mod-s", preventDefault: true, run: () => (save(), true) }]), ...completionKeymap, ...lintKeymap, ...historyKeymap, ...defaultKeymap]),
          EditorView.contentAttributes.of({ "aria-label": words, tabindex: "0", spellcheck: "false", autocapitalize: "none" }),
          EditorView.updateListener.of((update) => {
            if (!update.docChanged) return;
            area.value = this.text;
            changed();
          }),
        ],
      }),
    });
    area.hidden = true;
    for (const label of document.querySelectorAll(`label[for="${area.id}"]`)) label.addEventListener("click", () => this.view.focus());
  }

  get text(): string {
    return this.view.state.doc.toString();
  }

  /** Puts a piece into the text at this place, and the cursor behind it. */
  insert(at: number, piece: string): void {
    this.view.dispatch({ changes: { from: at, insert: piece }, selection: { anchor: at + piece.length }, scrollIntoView: true, userEvent: "input" });
    this.view.focus();
  }

  get cursor(): number {
    return this.view.state.selection.main.head;
  }

  /** Underlines what is wrong where it stands; none: nothing is wrong. */
  mark(faults: readonly Fault[]): void {
    this.faults = faults;
    const doc = this.view.state.doc;
    const found = faults.map((fault): Diagnostic => {
      const line = doc.line(Math.min(Math.max(1, fault.line), doc.lines));
      const from = Math.min(line.from + Math.max(0, fault.column - 1), line.to);
      return { from, to: Math.max(from, line.to), severity: "error", message: say(fault.reason) };
    });
    this.view.dispatch(setDiagnostics(this.view.state, found));
  }

  /** The cursor goes to the first fault, or to a line. */
  go(to = this.faults[0]?.line): void {
    if (to === undefined) return;
    const line = this.view.state.doc.line(Math.min(Math.max(1, to), this.view.state.doc.lines));
    this.view.dispatch({ selection: { anchor: line.from }, effects: EditorView.scrollIntoView(line.from, { y: "center" }) });
    this.view.focus();
  }
}
