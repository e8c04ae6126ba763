// What the whole page knows: the connection, the windows, the queue, the agents.
import { computed, signal } from "@preact/signals";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import type { WindowJson } from "../gen/podium/v1/analytics_pb";
import type { GetQueueStatsResponseJson } from "../gen/podium/v1/task_scheduler_pb";
import { connect, PodiumError, type State, time } from "../podium";

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

const SAMPLES_MAX = 600;
const WINDOWS_MAX = 60;

podium.wire.onstate = (state) => {
  connection.value = state;
  if (state === "open") everConnected.value = true;
  failures.value = podium.wire.failures;
};

/** Begins to follow the suite; called once. */
export function follow(): void {
  podium.watchAgents("1s", (change) => {
    const next = change.caughtUp && !agentsKnown.value ? new Map() : new Map(agents.value);
    for (const agent of change.agents ?? []) next.set(agent.agentId!, agent);
    for (const id of change.removedAgentIds ?? []) next.delete(id);
    agents.value = next;
    if (change.caughtUp) agentsKnown.value = true;
  });
  const totals = { omitTypes: true, omitAgents: true };
  podium.watchWindows({ window: "10s", count: WINDOWS_MAX, updateInterval: "1s", ...totals }, takeWindows);
  podium.watchWindows({ window: "300s", count: 2, updateInterval: "5s", omitAgents: true }, (batch) => {
    longWindows.value = merged(longWindows.value, batch).slice(-2);
  });
  void pollQueue();
  setInterval(leaveTrails, TRAIL_MS);
  setInterval(() => {
    if (!document.hidden) now.value = Date.now();
  }, 1_000);
  document.addEventListener("visibilitychange", () => {
    now.value = Date.now();
  });
}

async function pollQueue(): Promise<void> {
  for (;;) {
    if (!document.hidden) {
      try {
        queue.value = (await podium.ask({ queueStats: {} })).queueStats ?? {};
        queueError.value = "";
      } catch (error) {
        queueError.value = told(error);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

function takeWindows(batch: WindowJson[]): void {
  const before = windows.value;
  const after = merged(before, batch);
  windows.value = after.slice(-WINDOWS_MAX);
  sample(before, after);
  windowsKnown.value = true;
}

/** What each agent has completed and failed, noted every two seconds: a short past for each row. */
export interface Trail {
  done: number[];
  failed: number[];
}
export const trails = new Map<string, Trail>();
/** Grows with each note. */
export const trailed = signal(0);
const TRAIL_MS = 2_000;
export const TRAIL_MAX = 60;

function leaveTrails(): void {
  for (const id of trails.keys()) if (!agents.value.has(id)) trails.delete(id);
  for (const [id, agent] of agents.value) {
    const trail = trails.get(id) ?? { done: [], failed: [] };
    let done = 0;
    let failed = 0;
    for (const each of agent.statistics ?? []) {
      done += Number(each.completedCount ?? 0);
      failed += Number(each.failedCount ?? 0);
    }
    trail.done.push(done);
    trail.failed.push(failed);
    if (trail.done.length > TRAIL_MAX + 1) {
      trail.done.shift();
      trail.failed.shift();
    }
    trails.set(id, trail);
  }
  trailed.value += 1;
}

export function merged(known: WindowJson[], batch: WindowJson[]): WindowJson[] {
  const byStart = new Map(known.map((window) => [window.startTime!, window]));
  for (const window of batch) byStart.set(window.startTime!, window);
  return [...byStart.values()].sort((a, b) => time(a.startTime) - time(b.startTime));
}

// The difference of two updates of the open window is what happened in between: a plot by the
// second out of windows of ten.
function sample(before: WindowJson[], after: WindowJson[]): void {
  const at = Date.now();
  const known = samples.value;
  const last = known[known.length - 1];
  if (!last || at - last.at > 15_000) {
    samples.value = history(after, at);
    return;
  }
  const seconds = (at - last.at) / 1_000;
  // The windows of a batch arrive in pieces; too short a moment makes a rate of nothing.
  if (seconds < 0.4) return;
  const seen = sums(before);
  const sum = sums(after);
  const rate = (name: keyof Omit<Sample, "at">) => Math.max(0, sum[name] - seen[name]) / seconds;
  const next = { at, submitted: rate("submitted"), completed: rate("completed"), failed: rate("failed") };
  samples.value = [...known.slice(-SAMPLES_MAX), next];
}

function history(all: WindowJson[], at: number): Sample[] {
  const closed = all.filter((window) => window.closed);
  const points = closed.map((window) => ({
    at: time(window.startTime) + 10_000,
    submitted: Number(window.total?.submittedCount ?? 0) / 10,
    completed: Number(window.total?.completedCount ?? 0) / 10,
    failed: Number(window.total?.attemptFailedCount ?? 0) / 10,
  }));
  const last = points[points.length - 1];
  return [...points, { ...(last ?? { submitted: 0, completed: 0, failed: 0 }), at }];
}

function sums(all: WindowJson[]): Omit<Sample, "at"> {
  const found = { submitted: 0, completed: 0, failed: 0 };
  for (const { total } of all) {
    found.submitted += Number(total?.submittedCount ?? 0);
    found.completed += Number(total?.completedCount ?? 0);
    found.failed += Number(total?.attemptFailedCount ?? 0);
  }
  return found;
}

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
