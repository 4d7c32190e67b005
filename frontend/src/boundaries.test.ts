import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const HERE = new URL("./", import.meta.url);
const sources = readdirSync(HERE).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && name !== "testing.ts")
  .map((name) => ({ name, text: readFileSync(new URL(name, HERE), "utf8") }));
const using = (pattern: RegExp): string[] => sources.filter(({ text }) => pattern.test(text)).map(({ name }) => name);

it("only the socket opens connections, only plot.ts knows uPlot, nothing imports main.ts", () => {
  expect(using(/new WebSocket\(/)).toEqual(["socket.ts"]);
  expect(using(/from "uplot"/)).toEqual(["plot.ts"]);
  expect(using(/from "\.\/main"/)).toEqual([]);
  expect(using(/from "@codemirror\//)).toEqual(["lab_editor.ts"]);
});

it("byte offsets are known to the wire and the recording's record heads alone", () => {
  expect(using(/\bDataView\b/)).toEqual(["recording.ts", "wire.ts"]);
});

it("what must run without a page touches no DOM", () => {
  for (const name of ["wire.ts", "store.ts", "recording.ts", "palette.ts", "map_geometry.ts", "map_raster.ts"]) {
    expect(sources.find((source) => source.name === name)?.text, name).not.toMatch(/\b(document|HTMLElement|\.\/dom)\b/);
  }
});
