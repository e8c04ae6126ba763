// A live plot: made once, then only fed, so that it stays smooth at any rate.
import { effect, type ReadonlySignal, type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { now } from "./store";
import { themed } from "./themed";

export interface Line {
  label: string;
  color: string;
  fill?: boolean;
  dash?: number[];
}

interface Props {
  data: ReadonlySignal<uPlot.AlignedData>;
  lines: Line[];
  format: (value: number) => string;
  height?: number;
  label: string;
  /** Seconds of the past that are shown. */
  past: ReadonlySignal<number>;
  /** The lower end of the scale, by the smallest value; 0 without. */
  floor?: (least: number) => number;
  /** How the scale is labelled, where that is not as the values are. */
  tick?: (value: number) => string;
  /** Whether there are only whole numbers. */
  whole?: boolean;
  /** The upper end, where it is fixed. */
  ceiling?: number;
}

/** Between two labels of a scale: steps whose labels are never rounded to the same. */
const STEPS = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** (power - 1))).flat();

/** Charts of one page point at the same moment. */
const together = uPlot.sync("page");

export function Chart({ data, height = 200, label, ...looks }: Props) {
  const { lines, format } = looks;
  const box = useRef<HTMLDivElement>(null);
  const pointed = useSignal<number | null>(null);
  useEffect(() => {
    const host = box.current!;
    let plot = draw(host, { ...looks, height }, pointed);
    const stop = effect(() => {
      // The past moves on, also when nothing new is told.
      void now.value;
      plot.setData(data.value);
    });
    const sized = new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height }));
    sized.observe(host);
    const unthemed = themed(() => {
      plot.destroy();
      plot = draw(host, { ...looks, height }, pointed);
      plot.setData(data.peek());
    });
    return () => {
      stop();
      sized.disconnect();
      unthemed();
      plot.destroy();
    };
  }, []);
  return (
    <>
      <Legend data={data} lines={lines} format={format} pointed={pointed} />
      <div class={`chart chart-${height}`} ref={box} role="img" aria-label={label} />
    </>
  );
}

/** What the lines are, with the value under the pointer or the newest. */
function Legend(
  { data, lines, format, pointed }: Pick<Props, "data" | "lines" | "format"> & { pointed: Signal<number | null> },
) {
  const at = pointed.value ?? data.value[0].length - 1;
  return (
    <ul class="legend">
      {lines.map((line, index) => {
        const value = data.value[index + 1]?.[at] ?? (pointed.value === null ? newest(data.value[index + 1]) : null);
        return (
          <li key={line.label} class={`c-${line.color} ${line.dash ? "dashed" : ""}`}>
            {line.label} <b>{value === null || value === undefined ? "–" : format(value)}</b>
          </li>
        );
      })}
    </ul>
  );
}

/** A line may have a hole at its end: what is told is the newest there is. */
function newest(line: ArrayLike<number | null | undefined> | undefined): number | null {
  for (let at = (line?.length ?? 0) - 1; at >= 0; at -= 1) {
    const value = line![at];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

function draw(
  host: HTMLElement, { lines, format, height, past, floor, ceiling, tick, whole }: Omit<Props, "data" | "label"> & { height: number },
  pointed: Signal<number | null>,
): uPlot {
  const style = getComputedStyle(host);
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    stroke: color("mute"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: color("line"), width: 1 },
    ticks: { show: false },
  };
  return new uPlot(
    {
      width: host.clientWidth,
      height,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: together.key, setSeries: false } },
      hooks: {
        setCursor: [(plot) => {
          pointed.value = plot.cursor.idx ?? null;
        }],
      },
      padding: [10, 26, 0, 0],
      scales: {
        x: { time: true, range: () => [Date.now() / 1_000 - past.peek(), Date.now() / 1_000] },
        y: { range: (_, low, high) => [floor && low !== null ? floor(low) : 0, ceiling ?? (high > 0 ? high * 1.15 : 1)] },
      },
      axes: [
        { ...axis, size: 28, space: 80, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { ...axis, size: 54, space: 32, incrs: whole ? STEPS.filter((step) => step >= 1) : STEPS, values: (_, splits) => splits.map(tick ?? format) },
      ],
      series: [
        { label: "at", value: "{HH}:{mm}:{ss}" },
        ...lines.map((line): uPlot.Series => ({
          label: line.label,
          stroke: color(line.color),
          width: 2,
          points: { show: false },
          spanGaps: false,
          ...(line.dash ? { dash: line.dash } : {}),
          ...(line.fill ? { fill: `color-mix(in srgb, ${color(line.color)} 14%, transparent)` } : {}),
          value: (_, value) => (value === null || value === undefined ? "–" : format(value)),
        })),
      ],
    },
    [[], ...lines.map(() => [])] as uPlot.AlignedData,
    host,
  );
}
