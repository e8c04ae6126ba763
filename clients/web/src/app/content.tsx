// Payloads and results, shown for what they are: text, never markup.
import type { PayloadJson } from "../gen/podium/v1/task_pb";
import { decode } from "../podium";
import { bytes } from "./format";
import { Copy } from "./parts";

const SHOWN_MAX = 20_000;

export function Content({ of, missing }: { of: PayloadJson | undefined; missing: string }) {
  if (!of?.data) return <p class="mute">{missing}</p>;
  const raw = decode(of.data);
  const text = readable(raw, of.contentType ?? "");
  const cut = text.length > SHOWN_MAX;
  return (
    <div class="content">
      <div class="content-bar">
        <span class="hint">{of.contentType || "application/octet-stream"} · {bytes(raw.length)}</span>
        <Copy text={text} />
      </div>
      <pre tabIndex={0}>{cut ? `${text.slice(0, SHOWN_MAX)}\n… ${bytes(raw.length)} in all` : text}</pre>
    </div>
  );
}

function readable(raw: Uint8Array, contentType: string): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(raw);
  } catch {
    return hex(raw);
  }
  if (/json/.test(contentType) || /^\s*[[{]/.test(text)) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // Called JSON and is not: shown as it came.
    }
  }
  return text;
}

function hex(raw: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(raw.length, 2_048); at += 16) {
    const row = [...raw.subarray(at, at + 16)];
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(48)}  ${letters}`);
  }
  return lines.join("\n");
}
