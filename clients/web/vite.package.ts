import { defineConfig } from "vite";

// The package: one module beside its types, which tsc has written.
export default defineConfig({
  publicDir: false,
  build: {
    outDir: "dist",
    emptyOutDir: false,
    target: "es2022",
    minify: false,
    lib: {
      entry: { podium: "src/podium.ts", binary: "src/binary.ts" },
      formats: ["es"],
      fileName: (_, name) => `${name}.js`,
    },
    rolldownOptions: { external: /^@bufbuild\/protobuf/ },
  },
});
