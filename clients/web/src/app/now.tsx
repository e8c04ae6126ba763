// The fleet at a glance.
import { computed, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type uPlot from "uplot";
import type { LatencySummaryJson, WindowJson } from "../gen/podium/v1/analytics_pb";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import { milliseconds, time } from "../podium";
import { Chart } from "./chart";
import { ago, count, duration, percent, rate, short } from "./format";
import { Badge, Bar, Empty, Panel } from "./parts";
import { to } from "./route";
import {
  agents, agentsKnown, counts, longWindows, podium, queue, samples, windows, windowsKnown,
} from "./store";

type Leg = "totalLatency" | "assignmentLatency" | "runLatency";
const leg = signal<Leg>("totalLatency");
const latest = signal<TaskJson[] | undefined>();

const LEGS: [Leg, string][] = [
  ["totalLatency", "End to end"], ["assignmentLatency", "Assignment"], ["runLatency", "Run"],
];

const throughput = computed((): uPlot.AlignedData => {
  const all = samples.value;
  return [
    all.map(({ at }) => at / 1_000),
    all.map(({ completed }) => completed),
    all.map(({ submitted }) => submitted),
    all.map(({ failed }) => failed),
  ];
});

const latency = computed((): uPlot.AlignedData => {
  const told = windows.value.filter(({ total }) => Number(total?.[leg.value]?.count ?? 0) > 0);
  const pick = (name: "p50" | "p95" | "p99") =>
    told.map(({ total }) => milliseconds(total?.[leg.value]?.[name]));
  return [
    told.map(({ startTime, closed }) => time(startTime) / 1_000 + (closed ? 10 : 5)),
    pick("p50"), pick("p95"), pick("p99"),
  ];
});

/** The last half minute: long enough to be calm, short enough to be now. */
const recent = computed(() => windows.value.slice(-3));

function total(of: WindowJson[], name: "completedCount" | "failedCount" | "retriedCount"): number {
  return of.reduce((sum, window) => sum + Number(window.total?.[name] ?? 0), 0);
}

const tail = computed((): LatencySummaryJson | undefined => {
  const told = recent.value.filter(({ total }) => Number(total?.totalLatency?.count ?? 0) > 0);
  const open = told[told.length - 1];
  const before = told[told.length - 2];
  // A window that has just begun knows too little for percentiles.
  const young = Number(open?.total?.totalLatency?.count ?? 0) < 50;
  return (young && before ? before : open)?.total?.totalLatency;
});

export function Now() {
  useEffect(() => {
    let live = true;
    const poll = async () => {
      while (live) {
        if (!document.hidden) {
          try {
            latest.value = (await podium.list({ pageSize: 12 })).tasks;
          } catch {
            // The connection's own state tells; the list stays as it was.
          }
        }
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
    };
    void poll();
    return () => {
      live = false;
    };
  }, []);
  return (
    <div class="page">
      <h1 class="sr">Now</h1>
      <Tiles />
      <div class="columns wide-first">
        <Panel title="Throughput" hint="tasks a second, last 5 minutes">
          <Chart
            data={throughput} past={300} height={244} format={rate} label="Tasks a second over time"
            lines={[
              { label: "completed", color: "good", fill: true },
              { label: "submitted", color: "accent", dash: [4, 4] },
              { label: "failed attempts", color: "bad" },
            ]}
          />
        </Panel>
        <Panel title="Waiting" hint="by priority, and how long the oldest has waited">
          <Priorities />
        </Panel>
      </div>
      <div class="columns wide-first">
        <Panel title="Latency" hint="percentiles of 10 s windows" action={<Legs />}>
          <Chart
            data={latency} past={600} height={244} format={duration} label="Latency over time"
            lines={[
              { label: "p50", color: "accent", fill: true },
              { label: "p95", color: "warn" },
              { label: "p99", color: "bad" },
            ]}
          />
        </Panel>
        <Panel title="Tasks by state"><States /></Panel>
      </div>
      <div class="columns">
        <Panel title="Latest tasks" action={<a href={to("tasks")}>All tasks</a>}><Latest /></Panel>
        <Panel title="By type" hint="last 5 to 10 minutes"><Types /></Panel>
      </div>
    </div>
  );
}

function Tiles() {
  const all = samples.value;
  const last = all.slice(-5);
  const completed = last.reduce((sum, each) => sum + each.completed, 0) / Math.max(1, last.length);
  const done = total(recent.value, "completedCount");
  const failed = total(recent.value, "failedCount");
  const flight = (counts.value.get("STATE_RUNNING") ?? 0) + (counts.value.get("STATE_ASSIGNED") ?? 0);
  const waiting = counts.value.get("STATE_QUEUED") ?? 0;
  let slots = 0;
  let connected = 0;
  for (const agent of agents.value.values()) {
    if (agent.status === "STATUS_IDLE" || agent.status === "STATUS_BUSY") {
      slots += agent.maxConcurrency ?? 1;
      connected += 1;
    }
  }
  const p = (name: "p50" | "p95" | "p99") => tail.value ? duration(milliseconds(tail.value[name])) : "–";
  return (
    <div class="tiles">
      <Tile name="Throughput" value={rate(completed)} unit="/s" note={`${count(total(windows.value, "completedCount"))} in 10 min`} />
      <Tile name="In flight" value={count(flight)} note={agentsKnown.value ? `of ${count(slots)} slots` : " "} />
      <Tile name="Waiting" value={count(waiting)} note={`${count(counts.value.get("STATE_RETRY_WAIT") ?? 0)} wait for a retry`} />
      <Tile name="Latency p50" value={p("p50")} note={`p95 ${p("p95")} · p99 ${p("p99")}`} />
      <Tile
        name="Success" value={percent(done + failed > 0 ? done / (done + failed) : Number.NaN)}
        note={`${count(total(recent.value, "retriedCount"))} retried in 30 s`}
        tone={failed > 0 && failed / (done + failed) > 0.05 ? "bad" : ""}
      />
      <Tile name="Agents" value={count(connected)} note={agents.value.size > connected ? `${agents.value.size - connected} not available` : "all available"} />
    </div>
  );
}

function Tile(
  { name, value, unit = "", note, tone = "" }: {
    name: string; value: string; unit?: string; note: string; tone?: string;
  },
) {
  return (
    <div class={`tile ${tone}`}>
      <div class="tile-name">{name}</div>
      <div class="tile-value">{value}<span class="unit">{unit}</span></div>
      <div class="tile-note">{note}</div>
    </div>
  );
}

function Legs() {
  return (
    <div class="segments" role="group" aria-label="Which latency">
      {LEGS.map(([name, label]) => (
        <button
          type="button" key={name} aria-pressed={leg.value === name}
          onClick={() => {
            leg.value = name;
          }}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

function Priorities() {
  const depths = new Map((queue.value?.priorities ?? []).map((each) => [each.priority ?? 0, each]));
  const most = Math.max(1, ...[...depths.values()].map((each) => Number(each.count ?? 0)));
  const stuck = (queue.value?.requirements ?? []).filter((each) => !each.schedulable);
  return (
    <>
      <table class="bars">
        <tbody>
          {[9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((priority) => {
            const depth = depths.get(priority);
            const waiting = Number(depth?.count ?? 0);
            return (
              <tr key={priority} class={waiting ? "" : "zero"}>
                <th scope="row">{priority}</th>
                <td class="grow"><Bar share={waiting / most} label={`${waiting} at priority ${priority}`} /></td>
                <td class="number">{count(waiting)}</td>
                <td class="number mute">{waiting ? duration(milliseconds(depth?.oldestAge)) : ""}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {stuck.map((each) => (
        <p class="alert" key={(each.requiredCapabilities ?? []).join()}>
          <b>{count(Number(each.count ?? 0))}</b> wait for an agent that can do{" "}
          {(each.requiredCapabilities ?? []).map((name) => <code key={name}>{name}</code>)}; none is connected.
        </p>
      ))}
    </>
  );
}

const SHOWN = [
  "STATE_QUEUED", "STATE_ASSIGNED", "STATE_RUNNING", "STATE_RETRY_WAIT", "STATE_INPUT_REQUIRED",
  "STATE_DELAYED", "STATE_BLOCKED", "STATE_COMPLETED", "STATE_FAILED", "STATE_CANCELED", "STATE_EXPIRED",
];

function States() {
  return (
    <ul class="states">
      {SHOWN.map((state) => (
        <li key={state}>
          <a href={to("tasks", "", { state })}>
            <Badge of={state} />
            <span class="number">{count(counts.value.get(state) ?? 0)}</span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function Latest() {
  const tasks = latest.value;
  if (tasks && tasks.length === 0) {
    return (
      <Empty title="No task yet">
        <p>Submit one <a href={to("submit")}>with the form</a>, or from a shell:</p>
        <pre>podium submit text.summarize --payload 'Hello'</pre>
      </Empty>
    );
  }
  return (
    <div class="scroll-x list-12">
      <table class="table">
        <thead><tr><th>Task</th><th>Type</th><th>State</th><th class="wide">Agent</th><th class="number">Age</th></tr></thead>
        <tbody>
          {(tasks ?? []).map((task) => (
            <tr key={task.taskId}>
              <td><a class="id" title={task.taskId} href={to("tasks", task.taskId)}>{short(task.taskId)}</a></td>
              <td class="clip">{task.spec?.type}</td>
              <td><Badge of={task.state} /></td>
              <td class="clip wide">{task.agentId ?? "–"}</td>
              <td class="number mute">{ago(task.createTime)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Types() {
  const types = new Map<string, { done: number; failed: number; p95: number }>();
  for (const window of longWindows.value) {
    for (const each of window.types ?? []) {
      const known = types.get(each.key!) ?? { done: 0, failed: 0, p95: 0 };
      known.done += Number(each.completedCount ?? 0);
      known.failed += Number(each.failedCount ?? 0);
      known.p95 = Math.max(known.p95, milliseconds(each.runLatency?.p95));
      types.set(each.key!, known);
    }
  }
  const rows = [...types].sort(([, a], [, b]) => b.done + b.failed - a.done - a.failed).slice(0, 12);
  if (rows.length === 0) {
    return (
      <Empty title={windowsKnown.value ? "Nothing has ended lately" : "Waiting for the analytics"}>
        <p>Counts and times appear here as tasks end, for each type of task.</p>
      </Empty>
    );
  }
  return (
    <div class="scroll-x list-12">
      <table class="table">
        <thead><tr><th>Type</th><th class="number">Completed</th><th class="number">Failed</th><th class="number">Run p95</th></tr></thead>
        <tbody>
          {rows.map(([type, { done, failed, p95 }]) => (
            <tr key={type}>
              <td class="clip"><a href={to("tasks", "", { type })}>{type}</a></td>
              <td class="number">{count(done)}</td>
              <td class={`number ${failed ? "bad-text" : "mute"}`}>{count(failed)}</td>
              <td class="number">{done ? duration(p95) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
