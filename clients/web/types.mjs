// Writes the messages' types to src/gen from protos/podium/v1, with the compiler that makes the
// Python stubs: PYTHON names its interpreter, else the repository's environment, else python3.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const protos = join(here, "..", "..", "protos");
const out = join(here, "src", "gen");
const environment = join(here, "..", "..", ".venv", "bin", "python");
const python = process.env.PYTHON ?? (existsSync(environment) ? environment : "python3");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const files = readdirSync(join(protos, "podium", "v1"))
  .filter((name) => name.endsWith(".proto"))
  .map((name) => `podium/v1/${name}`);
const made = spawnSync(
  python,
  [
    "-m", "grpc_tools.protoc", `-I${protos}`,
    `--plugin=protoc-gen-es=${join(here, "node_modules", ".bin", "protoc-gen-es")}`,
    `--es_out=${out}`, "--es_opt=target=ts,json_types=true,import_extension=js", ...files,
  ],
  { stdio: "inherit" },
);
process.exit(made.status ?? 1);
