// What waits and runs over the last minutes. The scheduler tells only how it is now, so the page
// notes it each second, and keeps its notes over a reload.
import { signal } from "@preact/signals";
import type { GetQueueStatsResponseJson } from "../gen/podium/v1/task_scheduler_pb";
import { milliseconds } from "../podium";

/** How it was at one moment. */
export interface Gauge {
  at: number;
  inFlight: number;
  /** Waiting tasks by priority. */
  waiting: number[];
  /** Milliseconds the oldest of them has waited, by priority. */
  oldest: number[];
}

const GAUGES_MAX = 900;
const KEPT_MS = 600_000;
const STORED = "podium.gauges";

export const gauges = signal<Gauge[]>(stored());

export function note(queue: GetQueueStatsResponseJson): void {
  const waiting = Array<number>(10).fill(0);
  const oldest = Array<number>(10).fill(0);
  for (const { priority, count, oldestAge } of queue.priorities ?? []) {
    waiting[priority ?? 0] = Number(count ?? 0);
    oldest[priority ?? 0] = milliseconds(oldestAge);
  }
  let inFlight = 0;
  for (const { state, count } of queue.states ?? []) {
    if (state === "STATE_RUNNING" || state === "STATE_ASSIGNED") inFlight += Number(count ?? 0);
  }
  const at = Date.now();
  const fresh = gauges.value.filter((each) => each.at > at - KEPT_MS);
  gauges.value = [...fresh.slice(-GAUGES_MAX), { at, inFlight, waiting, oldest }];
}

function stored(): Gauge[] {
  try {
    const found: Gauge[] = JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
    return found.filter(({ at }) => at > Date.now() - KEPT_MS);
  } catch {
    return [];
  }
}

addEventListener("pagehide", () => {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(gauges.value));
  } catch {
    // Storage may be forbidden or full: the plots begin anew.
  }
});
