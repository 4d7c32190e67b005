import { expect, it } from "vitest";
import { csvOf, labelOf, svgOf, tableDrawing } from "./take_away";

it("a label says that it is a simulation and which moment of what", () => {
  expect(labelOf("TLB", { topic: "run/3/tlb", op: "48112", engine: "2", seed: "7" })).toBe("Simulation. TLB, run 3, op 48,112, engine 2, seed 7");
  expect(labelOf("Attack table", {})).toBe("Simulation. Attack table");
});

it("a sheet is quoted, and no cell of it is a formula", () => {
  const text = csvOf({ heads: ["page", "owner"], rows: [["0x1f", 'a "b", c'], ["-3", "=1+1"], ["@x", "+y"]] }, "Simulation. Map, run 1");
  expect(text).toBe('"Simulation. Map, run 1"\r\npage,owner\r\n0x1f,"a ""b"", c"\r\n-3,\'=1+1\r\n\'@x,\'+y\r\n');
});

it("a drawn table holds every cell, marks what is dashed, and escapes what it says", () => {
  const drawing = tableDrawing(["set", "entry"], [[{ text: "0" }, { text: "<a> & b", fill: "#e69f00", mark: "dashed" }]]);
  const svg = svgOf(drawing, "Simulation. TLB");
  expect(svg.match(/<rect /g)).toHaveLength(5);
  expect(svg).toContain("&lt;a&gt; &amp; b");
  expect(svg.match(/stroke-dasharray/g)).toHaveLength(1);
  expect(svg).toContain(">Simulation. TLB</text>");
});
