// Numbers, times and sizes for people.
import { now } from "./store";
import { time } from "../podium";

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function count(value: number): string {
  return Math.abs(value) < 100_000 ? plain.format(value) : compact.format(value);
}

export function rate(value: number): string {
  if (value === 0) return "0";
  return value < 10 ? value.toFixed(1) : count(value);
}

export function percent(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  return value === 100 || value === 0 ? `${value}%` : `${value.toFixed(value > 99 ? 2 : 1)}%`;
}

/** A span in the unit that reads best: 0.4 ms, 12 ms, 1.3 s, 4 min. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms === 0) return "0 ms";
  const size = Math.abs(ms);
  if (size < 10) return `${ms.toFixed(size < 1 ? 2 : 1)} ms`;
  if (size < 1_000) return `${Math.round(ms)} ms`;
  if (size < 60_000) return `${(ms / 1_000).toFixed(size < 10_000 ? 2 : 1)} s`;
  if (size < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`;
  if (size < 86_400_000) return `${(ms / 3_600_000).toFixed(1)} h`;
  return `${(ms / 86_400_000).toFixed(1)} d`;
}

/** How long ago, growing by itself. */
export function ago(moment: string | undefined): string {
  const at = time(moment);
  if (Number.isNaN(at)) return "–";
  const ms = now.value - at;
  if (ms < 1_500) return "now";
  if (ms < 60_000) return `${Math.floor(ms / 1_000)} s ago`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ago`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ago`;
  return `${Math.floor(ms / 86_400_000)} d ago`;
}

export function moment(text: string | undefined, whole = false): string {
  const at = time(text);
  return Number.isNaN(at) ? "–" : (whole ? calendar : clock).format(at);
}

export function bytes(size: number): string {
  if (size < 1_024) return `${size} B`;
  return size < 1_048_576 ? `${(size / 1_024).toFixed(1)} KiB` : `${(size / 1_048_576).toFixed(1)} MiB`;
}

/** STATE_RETRY_WAIT as people say it. */
export function word(constant: string | undefined): string {
  const bare = (constant ?? "").replace(/^(STATE|STATUS|BREAKER|TYPE)_/, "").toLowerCase();
  return bare.replaceAll("_", " ");
}

/** What tells a task's id apart: the end of its time and its number, without the zeros. */
export function short(id: string | undefined): string {
  if (!id) return "–";
  const parts = /^\w+-(\w+)-0*(\w+)$/.exec(id);
  return parts ? `${parts[1]!.slice(-6)}-${parts[2]}` : id.slice(-12);
}
