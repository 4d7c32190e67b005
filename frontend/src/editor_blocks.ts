/** Where a block may be put into the text of a lesson, and under which key: pure text, no page. */

/** The place at or after the cursor where a block stands by itself: the beginning of a line outside the head and every fence. */
export function placeFor(text: string, cursor: number): number {
  const lines = text.split("\n");
  let at = 0;
  let closes = lines[0]?.trimEnd() === "---" ? "---" : "";
  for (const [n, line] of lines.entries()) {
    const end = at + line.length + 1;
    if (n > 0 || closes === "") {
      if (closes !== "" && line.trimEnd() === closes) closes = "";
      else if (closes === "" && line.startsWith("```")) closes = "```";
    }
    // An empty line takes the block; a written one keeps its words together.
    if (closes === "" && cursor < end) return line === "" && !(n > 0 && lines[n - 1] !== "") ? at : Math.min(end, text.length);
    at = end;
  }
  return text.length;
}

/** The block with empty lines around it, and a key that no other question has. */
export function blockAt(text: string, at: number, block: string): string {
  let free = 1;
  while (new RegExp(`^key: question-${free}$`, "m").test(text)) free += 1;
  const before = text.slice(0, at), after = text.slice(at);
  const above = before === "" || before.endsWith("\n\n") ? "" : before.endsWith("\n") ? "\n" : "\n\n";
  return above + block.trimEnd().replace("question-1", `question-${free}`) + (after.startsWith("\n") ? "\n" : "\n\n");
}
