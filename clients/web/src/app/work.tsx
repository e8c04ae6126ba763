// What one agent has done lately, out of the windows of the analytics.
import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type uPlot from "uplot";
import type { WindowJson } from "../gen/podium/v1/analytics_pb";
import { milliseconds, time } from "../podium";
import { Chart } from "./chart";
import { duration, rate } from "./format";
import { Panel } from "./parts";
import { merged, podium, span } from "./store";

const COUNT = 60;
const LENGTH_S = 10;

export function Work({ id }: { id: string }) {
  const told = useMemo(() => signal<WindowJson[]>([]), [id]);
  const done = useMemo(() => signal<uPlot.AlignedData>([[], [], []]), [id]);
  const run = useMemo(() => signal<uPlot.AlignedData>([[], [], []]), [id]);
  useEffect(() => podium.watchWindows(
    { window: `${LENGTH_S}s`, count: COUNT, updateInterval: "2s", omitTypes: true, agentIds: [id] },
    (batch) => {
      told.value = merged(told.value, batch).slice(-COUNT);
      done.value = rates(told.value);
      run.value = times(told.value);
    },
  ), [id]);
  return (
    <div class="columns">
      <Panel title="Throughput" hint="tasks a second, windows of 10 s">
        <Chart
          data={done} past={span} height={160} format={rate} label="Tasks a second of this agent"
          lines={[{ label: "completed", color: "good", fill: true }, { label: "failed attempts", color: "bad" }]}
        />
      </Panel>
      <Panel title="Run time" hint="from start to result">
        <Chart
          data={run} past={span} height={160} format={duration} label="Run times of this agent"
          lines={[{ label: "p50", color: "accent", fill: true }, { label: "p95", color: "warn" }]}
        />
      </Panel>
    </div>
  );
}

function rates(all: WindowJson[]): uPlot.AlignedData {
  const of = (window: WindowJson, name: "completedCount" | "attemptFailedCount") => {
    // Of a window that is still open, only the part that is over counts.
    const seconds = window.closed ? LENGTH_S : Math.min(LENGTH_S, Math.max(1, (Date.now() - time(window.startTime)) / 1_000));
    return Number(window.agents?.[0]?.[name] ?? 0) / seconds;
  };
  return [
    all.map(middle), all.map((window) => of(window, "completedCount")),
    all.map((window) => of(window, "attemptFailedCount")),
  ];
}

function times(all: WindowJson[]): uPlot.AlignedData {
  const known = all.filter(({ agents }) => Number(agents?.[0]?.runLatency?.count ?? 0) > 0);
  const pick = (name: "p50" | "p95") => known.map(({ agents }) => milliseconds(agents?.[0]?.runLatency?.[name]));
  return [known.map(middle), pick("p50"), pick("p95")];
}

function middle(window: WindowJson): number {
  return time(window.startTime) / 1_000 + LENGTH_S / 2;
}
