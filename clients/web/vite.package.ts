import { defineConfig } from "vite";

// The package: one module beside its types, which tsc has written.
export default defineConfig({
  publicDir: false,
  build: {
    outDir: "dist",
    emptyOutDir: false,
    target: "es2022",
    minify: false,
    lib: { entry: "src/podium.ts", formats: ["es"], fileName: () => "podium.js" },
  },
});
