// One trace as a waterfall: who did what, when, for how long.
import { useState } from "preact/hooks";
import type { SpanJson } from "../gen/podium/v1/analytics_pb";
import { milliseconds, time } from "../podium";
import { duration } from "./format";

interface Row {
  span: SpanJson;
  depth: number;
  start: number;
  length: number;
}

/** Microseconds count here, and Date has none: the digits after them are read apart. */
function precise(moment: string | undefined): number {
  const fraction = /\.(\d+)Z$/.exec(moment ?? "")?.[1] ?? "";
  return Math.floor(time(moment) / 1_000) * 1_000 + Number(`0.${fraction || 0}`) * 1_000;
}

function rows(spans: SpanJson[]): Row[] {
  const children = new Map<string, SpanJson[]>();
  const ids = new Set(spans.map(({ spanId }) => spanId));
  for (const span of spans) {
    const parent = span.parentSpanId && ids.has(span.parentSpanId) ? span.parentSpanId : "";
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const found: Row[] = [];
  const walk = (parent: string, depth: number) => {
    const below = [...(children.get(parent) ?? [])].sort((a, b) => precise(a.startTime) - precise(b.startTime));
    for (const span of below) {
      found.push({ span, depth, start: precise(span.startTime), length: milliseconds(span.duration) });
      if (span.spanId && depth < 30) walk(span.spanId, depth + 1);
    }
  };
  walk("", 0);
  return found;
}

export function Waterfall({ spans }: { spans: SpanJson[] }) {
  const [open, setOpen] = useState("");
  const all = rows(spans);
  const first = Math.min(...all.map(({ start }) => start));
  const last = Math.max(...all.map(({ start, length }) => start + length));
  const whole = Math.max(last - first, 0.001);
  return (
    <div class="waterfall" role="list" aria-label="Spans of the trace">
      <div class="waterfall-scale" aria-hidden="true">
        <span>0</span><span>{duration(whole / 2)}</span><span>{duration(whole)}</span>
      </div>
      {all.map(({ span, depth, start, length }) => (
        <div role="listitem" key={span.spanId} class="span">
          <button
            type="button" class="span-row" aria-expanded={open === span.spanId}
            onClick={() => setOpen(open === span.spanId ? "" : span.spanId!)}
          >
            <span class="span-name" style={{ paddingLeft: `${Math.min(depth, 8) * 12}px` }}>
              {span.name}<i>{span.service}</i>
            </span>
            <span class="span-lane">
              <span
                class={`span-bar s-${span.error ? "error" : span.name}`}
                style={{ left: `${((start - first) / whole) * 100}%`, width: `${Math.max((length / whole) * 100, 0.4)}%` }}
              />
            </span>
            <span class="span-time">{duration(length)}</span>
          </button>
          {open === span.spanId && (
            <dl class="facts span-facts">
              <dt>begins</dt><dd>{duration(start - first)} after the trace</dd>
              {span.error && <><dt>error</dt><dd class="bad-text">{span.error}</dd></>}
              {Object.entries(span.attributes ?? {}).map(([key, text]) => <><dt>{key}</dt><dd class="id">{text}</dd></>)}
            </dl>
          )}
        </div>
      ))}
    </div>
  );
}
