// What waits, by priority: how much and how long, now and over the last minutes.
import { computed, signal } from "@preact/signals";
import { milliseconds } from "../podium";
import { count, duration } from "./format";
import { gauges } from "./gauges";
import { Panel, Segments } from "./parts";
import { queue, span } from "./store";

const PRIORITIES = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
/** Steps of the past: each shows the worst of its seconds. */
const STEPS = 120;

type Shown = "waiting" | "oldest";
const shown = signal<Shown>("waiting");
const KINDS: [Shown, string][] = [["waiting", "Depth"], ["oldest", "Age"]];

const past = computed((): number[][] => {
  const rows = PRIORITIES.map(() => Array<number>(STEPS).fill(0));
  const noted = gauges.value;
  const end = noted[noted.length - 1]?.at ?? 0;
  for (const gauge of noted) {
    const step = STEPS - 1 - Math.floor(((end - gauge.at) / 1_000 / span.value) * STEPS);
    if (step < 0) continue;
    PRIORITIES.forEach((priority, at) => {
      const row = rows[at]!;
      row[step] = Math.max(row[step]!, gauge[shown.value][priority] ?? 0);
    });
  }
  return rows;
});

export function Waiting() {
  const depths = new Map((queue.value?.priorities ?? []).map((each) => [each.priority ?? 0, each]));
  const rows = past.value;
  // One scale for all: what towers in the picture towers in the queue.
  const most = Math.max(1, ...rows.flat());
  return (
    <Panel title="Waiting" hint={`by priority, ${span.value / 60} minutes`} action={<Segments label="What of the queue" of={KINDS} chosen={shown} />}>
      <table class="bars">
        <thead><tr><th scope="col" title="Priority"><span class="sr">Priority</span></th><th scope="col"><span class="sr">Past</span></th><th scope="col" class="number">tasks</th><th scope="col" class="number">oldest</th></tr></thead>
        <tbody>
          {PRIORITIES.map((priority, at) => {
            const depth = depths.get(priority);
            const waiting = Number(depth?.count ?? 0);
            return (
              <tr key={priority} class={waiting ? "" : "zero"}>
                <th scope="row">{priority}</th>
                <td class="grow"><Past values={rows[at]!} most={most} label={`Priority ${priority}: ${waiting} waiting`} /></td>
                <td class="number">{count(waiting)}</td>
                <td class="number mute">{waiting ? duration(milliseconds(depth?.oldestAge)) : "–"}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Panel>
  );
}

function Past({ values, most, label }: { values: number[]; most: number; label: string }) {
  const points: string[] = [];
  values.forEach((value, at) => {
    // Any waiting at all is seen.
    const y = value > 0 ? Math.min(14.5, 16 - (value / most) * 15) : 16;
    points.push(`${at} ${y.toFixed(1)}`, `${at + 1} ${y.toFixed(1)}`);
  });
  const any = values.some((value) => value > 0);
  return (
    <svg class="past" viewBox={`0 0 ${STEPS} 16`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="spark-ground" d={`M0 15.500H${STEPS}`} />
      {any && <path class="past-fill" d={`M0 16L${points.join("L")}L${STEPS} 16Z`} />}
    </svg>
  );
}
