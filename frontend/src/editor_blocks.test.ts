import { expect, it } from "vitest";
import { blockAt, placeFor } from "./editor_blocks";

const BLOCK = "```question\nkey: question-1\ntext: x\n```\n";
const TEXT = "---\nid: a\n---\n## One\n\nWords.\n\n```view\nview: walk\n```\n\nMore.\n";

const put = (text: string, cursor: number): string => {
  const at = placeFor(text, cursor);
  return text.slice(0, at) + blockAt(text, at, BLOCK) + text.slice(at);
};

it("never splits the head, a fence or a line", () => {
  for (let cursor = 0; cursor <= TEXT.length; cursor += 1) {
    const made = put(TEXT, cursor);
    expect(made).toContain("---\nid: a\n---\n");
    expect(made).toContain("```view\nview: walk\n```\n");
    expect(made).toMatch(/^## One$/m);
    expect(made).toMatch(/^Words\.$/m);
    expect(made).toMatch(/\n\n```question\nkey: question-1\ntext: x\n```\n(\n|$)/);
  }
});

it("puts it after the line of the cursor", () => {
  expect(put(TEXT, TEXT.indexOf("Words"))).toContain("Words.\n\n```question");
  expect(put(TEXT, TEXT.indexOf("view: walk"))).toContain("view: walk\n```\n\n```question");
  expect(put("Words", 3)).toBe("Words\n\n```question\nkey: question-1\ntext: x\n```\n\n");
});

it("gives every question a key of its own", () => {
  const twice = put(put(TEXT, TEXT.length), 40);
  expect(twice.match(/^key: question-\d$/gm)).toEqual(["key: question-2", "key: question-1"]);
});
