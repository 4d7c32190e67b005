import { expect, it } from "vitest";
import { choices, names, operations } from "./lab_complete";

const FILE = `schema: 1
id: mine
let:
  frame: 4096
setup:
  - op: create_vm
    vcpus: 1
    as: victim
attacker:
  - op: hv_read
    mfn: $frame
    `.split("\n");
const labels = (lines: string[], at: number, head: string): string[] => choices(lines, at, head).found.map(({ label }) => label);

it("knows every operation with its fields from the schema", () => {
  expect(operations["hv_read"]).toEqual({ fields: ["mfn", "offset", "length"], binds: true });
  expect(operations["hv_write"]?.binds).toBe(false);
  expect(Object.keys(operations)).toHaveLength(39);
});

it("offers operations with the lines of their fields", () => {
  const lines = [...FILE.slice(0, 9), "  - op: "];
  const { found, from } = choices(lines, 9, "  - op: ");
  expect(from).toBe(8);
  expect(found.find(({ label }) => label === "claim")?.apply).toBe("claim\n    mfn: ");
  expect(choices(FILE, 9, "  - op: hv_r").from).toBe(8);
  expect(choices(FILE, 9, "  - op: hv_r").found.find(({ label }) => label === "hv_read")?.apply).toBe("hv_read");
});

it("offers the fields that a step does not have yet", () => {
  expect(labels(FILE, 11, "    ")).toEqual(["offset", "length", "as"]);
});

it("offers names that are bound above, keys of the top, and kinds of steps", () => {
  expect(names(FILE, 11)).toEqual(["secret", "frame", "victim"]);
  expect(labels(FILE, 10, "    mfn: $f")).toEqual(["$secret", "$frame", "$victim"]);
  expect(labels(FILE, 12, "")).toContain("machine");
  expect(labels(FILE, 12, "")).not.toContain("setup");
  expect(labels(FILE, 12, "  - ")).toEqual(["op", "let", "repeat", "victim", "note"]);
  expect(labels(["port:", "  - "], 1, "  - ")).toEqual(["hypervisor", "guest", "device", "physical"]);
  expect(labels(["port: "], 0, "port: ")).toContain("guest");
});
