// What the whole page knows: the connection, the windows, the queue, the agents.
import { batch, computed, signal } from "@preact/signals";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import type { WindowJson } from "../gen/podium/v1/analytics_pb";
import type { OverviewJson } from "../gen/podium/v1/bridge_pb";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import type { GetQueueStatsResponseJson } from "../gen/podium/v1/task_scheduler_pb";
import { connect, PodiumError, type State, time } from "../podium";
import { gauges, note } from "./gauges";
import { seed, step } from "./trails";

const TOKEN = "podium.token";

/** Where the suite checks callers: kept as long as the tab. */
function storedToken(): string {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return "";
  }
}

/** Connects anew with a token. */
export function enter(token: string): void {
  sessionStorage.setItem(TOKEN, token);
  location.reload();
}

export const podium = connect({ token: storedToken() });

export const connection = signal<State>("connecting");
export const everConnected = signal(false);
/** Handshakes that failed since the last connection. */
export const failures = signal(0);
export const queue = signal<GetQueueStatsResponseJson | undefined>();
export const queueError = signal("");
/** The newest tasks, newest first. */
export const latest = signal<TaskJson[] | undefined>();
export const agents = signal<ReadonlyMap<string, AgentJson>>(new Map());
export const agentsKnown = signal(false);
/** Windows of 10 s, oldest first. */
export const windows = signal<WindowJson[]>([]);
/** The last windows of 5 minutes, oldest first. */
export const longWindows = signal<WindowJson[]>([]);
export const windowsKnown = signal(false);
/** Grows once a second while the page is looked at; ages and "ago" hang on it. */
export const now = signal(Date.now());

/** One second of the live plot. */
export interface Sample {
  at: number;
  submitted: number;
  completed: number;
  failed: number;
}
export const samples = signal<Sample[]>([]);

const TRAIL_MS = 2_000;
const SETTLE_MS = 2_000;
let settled = 0;
const SAMPLES_MAX = 600;
const WINDOWS_MAX = 60;

podium.wire.onstate = (state) => {
  connection.value = state;
  // A watch that begins again tells everything again, and not who has left meanwhile.
  if (state !== "open") gathered = new Map();
  if (state === "open") everConnected.value = true;
  failures.value = podium.wire.failures;
};

/** What the watch of the agents has told so far, until it has told all there are. */
let gathered: Map<string, AgentJson> | undefined = new Map();

/** Begins to follow the suite; called once. */
export function follow(): void {
  podium.watchAgents("1s", (change) => {
    const next = gathered ?? new Map(agents.value);
    for (const agent of change.agents ?? []) next.set(agent.agentId!, agent);
    for (const id of change.removedAgentIds ?? []) next.delete(id);
    if (gathered && !change.caughtUp) return;
    gathered = undefined;
    batch(() => {
      agents.value = next;
      agentsKnown.value = true;
    });
  });
  const totals = { omitTypes: true, omitAgents: true };
  podium.watchWindows({ window: "10s", count: WINDOWS_MAX, updateInterval: "1s", ...totals }, takeWindows);
  podium.watchWindows({ window: "300s", count: 2, updateInterval: "5s", omitAgents: true }, (batch) => {
    longWindows.value = merged(longWindows.value, batch).slice(-2);
  });
  podium.watchOverview(takeOverview, (error) => {
    queueError.value = error.message;
  });
  seed();
  setInterval(() => step(agents.value), TRAIL_MS);
  setInterval(() => {
    rest();
    if (!document.hidden) now.value = Date.now();
  }, 1_000);
  document.addEventListener("visibilitychange", () => {
    now.value = Date.now();
  });
}

function takeOverview({ queueStats, latestTasks, samples: told, unreachable }: OverviewJson): void {
  batch(() => {
    queueError.value = unreachable ?? "";
    if (queueStats) queue.value = queueStats;
    if (!unreachable && queueStats) latest.value = latestTasks ?? [];
    note(told ?? []);
  });
}

function takeWindows(batch: WindowJson[]): void {
  const before = windows.value;
  const after = merged(before, batch);
  windows.value = after.slice(-WINDOWS_MAX);
  sample(before, after);
  windowsKnown.value = true;
}

export function merged(known: WindowJson[], batch: WindowJson[]): WindowJson[] {
  const byStart = new Map(known.map((window) => [window.startTime!, window]));
  for (const window of batch) byStart.set(window.startTime!, window);
  return [...byStart.values()].sort((a, b) => time(a.startTime) - time(b.startTime));
}

const NOTHING = { submitted: 0, completed: 0, failed: 0 };
/** What was told since the last sample. */
let fresh = { ...NOTHING };

// The difference of two updates of the open window is what happened in between: a plot by the
// second out of windows of ten.
function sample(before: WindowJson[], after: WindowJson[]): void {
  const at = Date.now();
  const known = samples.value;
  const last = known[known.length - 1];
  const seen = sums(before);
  const sum = sums(after);
  for (const name of ["submitted", "completed", "failed"] as const) fresh[name] += Math.max(0, sum[name] - seen[name]);
  if (!last || at - last.at > 15_000) settled = at + SETTLE_MS;
  // The past comes in pieces: a difference of two of them is no rate.
  if (!last || at < settled) {
    samples.value = history(after, at);
    fresh = { ...NOTHING };
    return;
  }
  const seconds = (at - last.at) / 1_000;
  // The windows of a batch arrive in pieces; too short a moment makes a rate of nothing.
  if (seconds < 0.4) return;
  const next = {
    at, submitted: fresh.submitted / seconds, completed: fresh.completed / seconds, failed: fresh.failed / seconds,
  };
  fresh = { ...NOTHING };
  samples.value = [...known.slice(-SAMPLES_MAX), next];
}

const QUIET_MS = 2_500;

/** Where nothing happens nothing is told: that is a rate too. */
function rest(): void {
  const known = samples.value;
  const at = Date.now();
  if (connection.value !== "open" || at - (known[known.length - 1]?.at ?? at) < QUIET_MS) return;
  samples.value = [...known.slice(-SAMPLES_MAX), { at, ...NOTHING }];
}

function history(all: WindowJson[], at: number): Sample[] {
  return all.map(({ startTime, closed, total }) => {
    const begun = time(startTime);
    // Of the window that is still open only what is over.
    const seconds = closed ? 10 : Math.min(10, Math.max(1, (at - begun) / 1_000));
    return {
      at: Math.min(begun + 10_000, at),
      submitted: Number(total?.submittedCount ?? 0) / seconds,
      completed: Number(total?.completedCount ?? 0) / seconds,
      failed: Number(total?.attemptFailedCount ?? 0) / seconds,
    };
  });
}

function sums(all: WindowJson[]): Omit<Sample, "at"> {
  const found = { ...NOTHING };
  for (const { total } of all) {
    found.submitted += Number(total?.submittedCount ?? 0);
    found.completed += Number(total?.completedCount ?? 0);
    found.failed += Number(total?.attemptFailedCount ?? 0);
  }
  return found;
}

/** The last half minute: long enough to be calm, short enough to be now. */
export const recent = computed(() => windows.value.slice(-3));

/** What to tell people about an error. */
export function told(error: unknown): string {
  return error instanceof PodiumError || error instanceof Error ? error.message : String(error);
}

/** Tasks by state, 0 for what is not told. */
export const counts = computed(() => {
  const found = new Map<string, number>();
  for (const { state, count } of queue.value?.states ?? []) {
    if (state) found.set(state, Number(count ?? 0));
  }
  return found;
});

/** Agents by their ids; sorted anew only when one comes or goes, not when one changes. */
export const agentIds = computed((): string[] => {
  const known = agents.value;
  if (known.size !== sorted.length || sorted.some((id) => !known.has(id))) {
    sorted = [...known.keys()].sort(order.compare);
  }
  return sorted;
});
let sorted: string[] = [];
// Made once: comparing names by a locale is slow, and there may be a thousand of them.
export const order = new Intl.Collator("en", { numeric: true });

const SPANS_S = [120, 300, 600];

/** Seconds of the past that plots show: no more of them than there is something to show of. */
export const span = computed((): number => {
  const first = Math.min(time(windows.value[0]?.startTime) || now.value, gauges.value[0]?.at ?? now.value);
  const known = (now.value - first) / 1_000;
  return SPANS_S.find((each) => known <= each) ?? SPANS_S[SPANS_S.length - 1]!;
});
