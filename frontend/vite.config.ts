import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { defineConfig, type Plugin } from "vite";

const ICONS = [
  "arrow-down", "arrow-left", "arrow-right", "arrow-up", "bell", "circle", "circle-alert", "circle-check", "circle-dashed",
  "circle-question-mark", "clock", "ellipsis", "eye", "history", "info", "loader", "lock-open", "maximize", "minus", "monitor",
  "moon", "pause", "play", "plus", "projector", "radio", "refresh-cw", "shield", "skip-forward", "step-back", "step-forward",
  "sun", "triangle-alert", "wifi-off", "x",
];
const FONTS = [
  ["Inter Variable", "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2", "100 900"],
  ["JetBrains Mono Variable", "@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2", "100 800"],
] as const;

/** Copies the fonts and writes live/assets.css: the font faces and one `--icon-<name>` mask per icon, for site.css. */
function siteAssets(): Plugin {
  const find = createRequire(import.meta.url).resolve;
  return {
    name: "site-assets",
    apply: "build",
    generateBundle() {
      const faces = FONTS.map(([family, path, weights]) => {
        const fileName = `fonts/${path.slice(path.lastIndexOf("/") + 1)}`;
        this.emitFile({ type: "asset", fileName, source: readFileSync(find(path)) });
        return `@font-face{font-family:"${family}";src:url("${fileName}") format("woff2");font-weight:${weights};font-display:swap}`;
      });
      const icons = ICONS.map((name) => {
        const svg = readFileSync(find(`lucide-static/icons/${name}.svg`), "utf8").replace(/<!--.*?-->|class="[^"]*"/gs, "");
        return `--icon-${name}:url("data:image/svg+xml,${encodeURIComponent(svg.replace(/\s+/g, " ").trim())}")`;
      });
      const source = `${faces.join("\n")}\n:root{${icons.join(";\n")}}\n`;
      this.emitFile({ type: "asset", fileName: "assets.css", source });
    },
  };
}

export default defineConfig({
  base: "/static/live/",
  plugins: [siteAssets()],
  build: {
    outDir: "../webapp/static/live",
    emptyOutDir: true,
    manifest: true,
    target: "es2022",
    rollupOptions: {
      input: { main: "src/main.ts", theme: "src/theme.ts", webauthn: "src/webauthn.ts", guide: "src/guide.ts", consequences: "src/consequences.ts", lab: "src/lab.ts", editor: "src/editor.ts", wall: "src/wall.ts", lesson: "src/lesson.ts", predict: "src/predict.ts", class: "src/class.ts", kiosk: "src/kiosk.ts", shared: "src/shared.ts" },
      output: {
        // Their names are known without the manifest: two are on every page, live or not; the lab's page works without its script.
        entryFileNames: (chunk) => (["theme", "guide", "lab"].includes(chunk.name) ? "[name].js" : "[name]-[hash].js"),
        assetFileNames: "[name]-[hash][extname]",
        chunkFileNames: "[name]-[hash].js",
      },
    },
  },
});
