// What each agent has completed in the last two minutes, in steps of two seconds: a short past for
// each row of the table.
import { signal } from "@preact/signals";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import type { WindowJson } from "../gen/podium/v1/analytics_pb";
import { time } from "../podium";
import { podium } from "./store";

const STEP_S = 2;
const WINDOW_S = 10;
export const TRAIL_MAX = 60;

interface Trail {
  steps: number[];
  /** All it had completed at the last step. */
  done: number;
}

const trails = new Map<string, Trail>();
/** Grows with each step. */
export const stepped = signal(0);

export function trail(id: string): number[] {
  void stepped.value;
  return trails.get(id)?.steps ?? before.get(id) ?? [];
}

/** Notes what agents have completed since the last step; called every two seconds. */
export function step(agents: ReadonlyMap<string, AgentJson>): void {
  for (const id of trails.keys()) if (!agents.has(id)) trails.delete(id);
  for (const [id, agent] of agents) {
    let done = 0;
    for (const each of agent.statistics ?? []) done += Number(each.completedCount ?? 0);
    const known = trails.get(id);
    if (!known) {
      trails.set(id, { steps: past(id), done });
      continue;
    }
    known.steps.push(Math.max(0, done - known.done));
    if (known.steps.length > TRAIL_MAX) known.steps.shift();
    known.done = done;
  }
  stepped.value += 1;
}

/** Completed tasks of the windows before the page was opened: the start of each trail. */
const before = new Map<string, number[]>();

function past(id: string): number[] {
  const found = before.get(id) ?? [];
  before.delete(id);
  return found;
}

/** Asks for the windows of the last two minutes by agent, once. */
export function seed(): void {
  const request = { window: `${WINDOW_S}s`, count: TRAIL_MAX / (WINDOW_S / STEP_S), omitTypes: true };
  const stop = podium.watchWindows({ ...request, updateInterval: "60s" }, (batch) => {
    for (const window of batch) take(window);
    stepped.value += 1;
  });
  // The past comes in a few pieces right after the connection; what follows is not wanted.
  setTimeout(stop, 10_000);
}

function take(window: WindowJson): void {
  const begun = (Date.now() - time(window.startTime)) / 1_000;
  // Of the open window only what is over.
  const steps = Math.max(1, Math.round(Math.min(WINDOW_S, begun) / STEP_S));
  const ago = Math.round(begun / STEP_S);
  const first = TRAIL_MAX - ago;
  for (const { key, completedCount } of window.agents ?? []) {
    const known = trails.get(key!)?.steps;
    let filled = before.get(key!);
    if (known && !filled) {
      // The agent was told before its past: it goes in front.
      while (known.length < TRAIL_MAX) known.unshift(0);
      filled = known;
    }
    if (!filled) before.set(key!, filled = Array<number>(TRAIL_MAX).fill(0));
    for (let at = Math.max(0, first); at < Math.min(TRAIL_MAX, first + steps); at += 1) {
      filled[at] = Number(completedCount ?? 0) / steps;
    }
  }
}
