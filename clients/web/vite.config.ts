import { defineConfig } from "vite";

// The dashboard is built beside the service that serves it, and committed there, so that running
// Podium needs no Node. `podium.js` keeps its name: pages import it.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../../services/edge/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 200,
    rolldownOptions: {
      input: { index: "index.html", podium: "src/podium.ts" },
      preserveEntrySignatures: "strict",
      output: {
        entryFileNames: (chunk) => chunk.name === "podium" ? "podium.js" : "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
});
