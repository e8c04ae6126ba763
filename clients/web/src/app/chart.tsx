// A live plot: made once, then only fed, so that it stays smooth at any rate.
import { effect, type ReadonlySignal, type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

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
  past: number;
}

const theme = matchMedia("(prefers-color-scheme: dark)");

export function Chart({ data, lines, format, height = 200, label, past }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const pointed = useSignal<number | null>(null);
  useEffect(() => {
    const host = box.current!;
    let plot = draw(host, lines, format, height, past, pointed);
    const stop = effect(() => {
      plot.setData(data.value);
    });
    const sized = new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height }));
    sized.observe(host);
    // Canvases do not follow CSS: with a new theme the plot is drawn anew.
    const redraw = () => {
      plot.destroy();
      plot = draw(host, lines, format, height, past, pointed);
      plot.setData(data.peek());
    };
    const themed = new MutationObserver(redraw);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    theme.addEventListener("change", redraw);
    return () => {
      stop();
      sized.disconnect();
      themed.disconnect();
      theme.removeEventListener("change", redraw);
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
        const value = data.value[index + 1]?.[at];
        return (
          <li key={line.label} class={`c-${line.color} ${line.dash ? "dashed" : ""}`}>
            {line.label} <b>{value === null || value === undefined ? "–" : format(value)}</b>
          </li>
        );
      })}
    </ul>
  );
}

function draw(
  host: HTMLElement, lines: Line[], format: (value: number) => string, height: number, past: number,
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
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      hooks: {
        setCursor: [(plot) => {
          pointed.value = plot.cursor.idx ?? null;
        }],
      },
      padding: [10, 16, 0, 0],
      scales: {
        x: { time: true, range: () => [Date.now() / 1_000 - past, Date.now() / 1_000] },
        y: { range: (_, __, high) => [0, high > 0 ? high * 1.15 : 1] },
      },
      axes: [
        { ...axis, size: 28, space: 80, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { ...axis, size: 58, space: 36, values: (_, splits) => splits.map(format) },
      ],
      series: [
        { label: "at", value: "{HH}:{mm}:{ss}" },
        ...lines.map((line): uPlot.Series => ({
          label: line.label,
          stroke: color(line.color),
          width: 2,
          points: { show: false },
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
