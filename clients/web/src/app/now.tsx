// The fleet at a glance.
import { computed, signal } from "@preact/signals";
import uPlot from "uplot";
import type { LatencySummaryJson, WindowJson } from "../gen/podium/v1/analytics_pb";
import { milliseconds, time } from "../podium";
import { Attention } from "./attention";
import { Chart } from "./chart";
import { FleetMap } from "./fleet";
import { ago, count, duration, percent, rate, short } from "./format";
import { gauges } from "./gauges";
import { Badge, Empty, Panel, Segments } from "./parts";
import { to } from "./route";
import { agents, agentsKnown, counts, latest, longWindows, queue, recent, samples, span, windows } from "./store";
import { Waiting } from "./waiting";

type Leg = "totalLatency" | "assignmentLatency" | "runLatency";
const leg = signal<Leg>("totalLatency");

const LEGS: [Leg, string][] = [
  ["totalLatency", "End to end"], ["assignmentLatency", "Assignment"], ["runLatency", "Run"],
];

const throughput = computed((): uPlot.AlignedData => {
  const all = samples.value;
  return [
    all.map(({ at }) => at / 1_000),
    calm(all.map(({ completed }) => completed)),
    calm(all.map(({ submitted }) => submitted)),
    calm(all.map(({ failed }) => failed)),
  ];
});

/** Means of three: updates come a little early or late, and that is no news about the fleet. */
function calm(values: number[]): number[] {
  return values.map((_, at) => {
    const near = values.slice(Math.max(0, at - 2), at + 1);
    return near.reduce((sum, each) => sum + each, 0) / near.length;
  });
}

const flight = computed((): uPlot.AlignedData => [
  gauges.value.map(({ at }) => at / 1_000), gauges.value.map(({ inFlight }) => inFlight),
]);

/** Shares that went well: of the tasks that ended, and of all attempts. */
const success = computed((): uPlot.AlignedData => {
  const share = (name: "failedCount" | "attemptFailedCount") => windows.value.map(({ total }) => {
    const done = Number(total?.completedCount ?? 0);
    const all = done + Number(total?.[name] ?? 0);
    return all > 0 ? (done / all) * 100 : null;
  });
  return [windows.value.map(middle), share("failedCount"), share("attemptFailedCount")] as uPlot.AlignedData;
});

function middle({ startTime, closed }: WindowJson): number {
  // An open window stands where it has got to, never in the future: that would fall off the scale.
  return Math.min(time(startTime) / 1_000 + (closed ? 10 : 5), Date.now() / 1_000);
}

const latency = computed((): uPlot.AlignedData => {
  // A window in which nothing ended has no latency: a hole, not a line drawn over it.
  const pick = (name: "p50" | "p95" | "p99") => windows.value.map(({ total }) => {
    const told = total?.[leg.value];
    return Number(told?.count ?? 0) > 0 ? milliseconds(told?.[name]) : null;
  });
  return [windows.value.map(middle), pick("p50"), pick("p95"), pick("p99")];
});

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
  return (
    <div class="page">
      <h1 class="sr">Now</h1>
      <Tiles />
      <Attention />
      <Start />
      <div class="columns">
        <Panel title="Throughput" hint="tasks a second">
          <Chart
            data={throughput} past={span} height={190} format={rate} label="Tasks a second over time"
            lines={[
              { label: "completed", color: "good", fill: true },
              { label: "submitted", color: "accent", dash: [4, 4] },
              { label: "failed attempts", color: "bad" },
            ]}
          />
        </Panel>
        <Panel title="Latency" hint="of 10 s windows" action={<Segments label="Which latency" of={LEGS} chosen={leg} />}>
          <Chart
            data={latency} past={span} height={190} format={duration} label="Latency over time"
            lines={[
              { label: "p50", color: "accent", fill: true },
              { label: "p95", color: "warn" },
              { label: "p99", color: "bad" },
            ]}
          />
        </Panel>
      </div>
      <div class="columns thirds">
        <Panel title="In flight" hint={agentsKnown.value ? `granted or running; ${count(capacity.value.slots)} slots` : "granted or running"}>
          <Chart
            data={flight} past={span} height={190} format={count} whole label="Tasks granted or running over time"
            lines={[{ label: "granted or running", color: "live", fill: true }]}
          />
        </Panel>
        <Panel title="Success" hint="of what ended, 10 s windows">
          <Chart
            data={success} past={span} height={190} format={(value) => percent(value / 100)} tick={(value) => `${Number(value.toFixed(1))}%`} label="Success over time"
            floor={floor} ceiling={100}
            lines={[{ label: "tasks", color: "good" }, { label: "attempts", color: "accent", dash: [4, 4] }]}
          />
        </Panel>
        <Waiting />
      </div>
      <div class="columns thirds">
        <Panel class="fills" title="Fleet" hint="a cell an agent, filled by load" action={<a href={to("agents")}>All agents</a>}>{agentsKnown.value && agents.value.size === 0 ? <Empty title="No agent yet"><p>Each agent is a cell here, filled by its load, as soon as it connects.</p></Empty> : <FleetMap />}</Panel>
        <Panel title="By type" hint="last 5 to 10 minutes"><Types /></Panel>
        <Panel title="Tasks by state" action={<a href={to("tasks")}>All tasks</a>}><States /></Panel>
      </div>
      <Panel title="Latest tasks" action={<a href={to("tasks")}>All tasks</a>}><Latest /></Panel>
    </div>
  );
}

/** A scale that shows a few failures, and does not make a drama of them. */
function floor(least: number): number {
  return least >= 99 ? 98 : least >= 90 ? 88 : least >= 50 ? 45 : 0;
}

const capacity = computed(() => {
  let slots = 0;
  let connected = 0;
  for (const agent of agents.value.values()) {
    if ((agent.status === "STATUS_IDLE" || agent.status === "STATUS_BUSY") && agent.breaker !== "BREAKER_OPEN") {
      slots += agent.maxConcurrency ?? 1;
      connected += 1;
    }
  }
  return { slots, connected };
});

/** What to do first, as long as nothing was ever done here. */
function Start() {
  const empty = queue.value && latest.value?.length === 0;
  if (!empty || !agentsKnown.value) return null;
  const connected = agents.value.size > 0;
  return (
    <Panel title="Three steps to the first result" class="start">
      <ol>
        <li class={connected ? "done" : ""}>
          <h3>Start an agent</h3>
          <p>It dials in, says what it can do, and is given work. A simulated fleet, a module of yours, or <a href="/examples/agent.html" target="_blank" rel="noopener">a tab of this browser</a>:</p>
          <pre>podium sim fleet --agents 20 --rate 50{"\n"}podium agent run my_module:agent</pre>
        </li>
        <li>
          <h3>Submit a task</h3>
          <p>It is on disk before it gets its id. Use <a href={to("submit")}>the form</a>, or a shell:</p>
          <pre>podium submit text.summarize --payload 'Hello'</pre>
        </li>
        <li>
          <h3>See why</h3>
          <p>Each task has a page with what happened, its trace, and who was considered for it. The same in a shell:</p>
          <pre>podium why TASK{"\n"}podium trace TASK</pre>
        </li>
      </ol>
    </Panel>
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
  const { slots, connected } = capacity.value;
  const oldest = Math.max(0, ...(queue.value?.priorities ?? []).map(({ oldestAge }) => milliseconds(oldestAge)));
  const p = (name: "p50" | "p95" | "p99") => tail.value ? duration(milliseconds(tail.value[name])) : "–";
  return (
    <div class="tiles">
      <Tile name="Throughput" value={rate(completed)} unit="/s" note={`${count(total(windows.value, "completedCount"))} in 10 min`} />
      <Tile name="In flight" value={count(flight)} note={agentsKnown.value ? `the fleet has ${count(slots)} slots` : " "} />
      <Tile name="Waiting" value={count(waiting)} note={waiting > 0 ? `oldest ${duration(oldest)}` : "nothing queued"} />
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

const SHOWN = [
  "STATE_QUEUED", "STATE_ASSIGNED", "STATE_RUNNING", "STATE_RETRY_WAIT", "STATE_INPUT_REQUIRED",
  "STATE_DELAYED", "STATE_BLOCKED", "STATE_PAUSED", "STATE_COMPLETED", "STATE_FAILED", "STATE_CANCELED", "STATE_EXPIRED", "STATE_REJECTED",
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
    return <Empty title="No task yet"><p>The newest tasks stand here as soon as there are some.</p></Empty>;
  }
  return (
    <div class="scroll-x list-8">
      <table class="table fixed">
        <thead><tr><th>Task</th><th>Type</th><th class="w130">State</th><th class="wide">Agent</th><th class="number wide w100">Attempts</th><th class="number wide w110">Took</th><th class="number w90">Age</th></tr></thead>
        <tbody>
          {(tasks ?? []).map((task) => (
            <tr key={task.taskId}>
              <td><a class="id" title={task.taskId} href={to("tasks", task.taskId)}>{short(task.taskId)}</a></td>
              <td class="clip">{task.spec?.type}</td>
              <td><Badge of={task.state} /></td>
              <td class="clip wide">{task.agentId ? <a href={to("agents", task.agentId)}>{task.agentId}</a> : "–"}</td>
              <td class="number wide">{task.attemptCount ?? 0}</td>
              <td class="number wide">{task.endTime ? duration(time(task.endTime) - time(task.createTime)) : "–"}</td>
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
  const rows = [...types].sort(([, a], [, b]) => b.done + b.failed - a.done - a.failed).slice(0, 10);
  if (rows.length === 0) {
    return (
      <Empty title="Nothing has ended lately">
        <p>Counts and times appear here as tasks end, for each type of task.</p>
      </Empty>
    );
  }
  return (
    <div class="scroll-x">
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
