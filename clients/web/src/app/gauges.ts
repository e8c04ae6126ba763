// What waits and runs over the last minutes, as the bridge has sampled it each second.
import { signal } from "@preact/signals";
import type { OverviewSampleJson } from "../gen/podium/v1/bridge_pb";
import { milliseconds, time } from "../podium";

/** How it was at one moment. */
export interface Gauge {
  at: number;
  inFlight: number;
  /** Waiting tasks by priority. */
  waiting: number[];
  /** Milliseconds the oldest of them has waited, by priority. */
  oldest: number[];
}

const GAUGES_MAX = 600;

export const gauges = signal<Gauge[]>([]);

/** Takes in samples; a watch that begins again tells again what is known. */
export function note(samples: OverviewSampleJson[]): void {
  if (samples.length === 0) return;
  const fresh = samples.map(gauge);
  const known = gauges.value.filter(({ at }) => at < fresh[0]!.at);
  gauges.value = [...known, ...fresh].slice(-GAUGES_MAX);
}

function gauge({ sampleTime, inFlightCount, priorities }: OverviewSampleJson): Gauge {
  const waiting = Array<number>(10).fill(0);
  const oldest = Array<number>(10).fill(0);
  for (const { priority, count, oldestAge } of priorities ?? []) {
    waiting[priority ?? 0] = Number(count ?? 0);
    oldest[priority ?? 0] = milliseconds(oldestAge);
  }
  return { at: time(sampleTime), inFlight: Number(inFlightCount ?? 0), waiting, oldest };
}
