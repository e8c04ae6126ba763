// Why dead letters died: the same fault once, with how many it has, to look at and to requeue alone.
import { useEffect, useState } from "preact/hooks";
import type { TaskFilterJson } from "../gen/podium/v1/task_pb";
import { count } from "./format";
import { podium } from "./store";

const LOOKED_AT = 500;
const SHOWN_MAX = 6;
const TEXT_MAX = 120;
const REFRESH_MS = 10_000;

type Reason = [text: string, many: number];

/** Messages differ in their numbers; the fault is the same up to the first of them. */
function common(message: string): string {
  const start = (/^\D{8,}/.exec(message)?.[0] ?? message).trim();
  return start.slice(0, TEXT_MAX);
}

async function counted(filter: TaskFilterJson): Promise<Reason[]> {
  const { tasks } = await podium.list({ filter, pageSize: LOOKED_AT });
  const many = new Map<string, number>();
  for (const { failure } of tasks) {
    const text = common(failure?.message || failure?.reason || "");
    if (text) many.set(text, (many.get(text) ?? 0) + 1);
  }
  return [...many].sort(([, a], [, b]) => b - a);
}

export function Reasons({ filter, narrow }: { filter: TaskFilterJson; narrow: (text: string) => void }) {
  const [reasons, setReasons] = useState<Reason[]>([]);
  const asked = JSON.stringify(filter);
  useEffect(() => {
    let live = true;
    const load = () => {
      counted(filter).then((found) => live && setReasons(found), () => {});
    };
    load();
    const timer = setInterval(() => !document.hidden && load(), REFRESH_MS);
    return () => {
      live = false;
      clearInterval(timer);
    };
  }, [asked]);
  return (
    <div class="reasons" role="group" aria-label="By what went wrong">
      {reasons.slice(0, SHOWN_MAX).map(([text, many]) => (
        <button type="button" class="reason-chip" key={text} aria-pressed={filter.failureText === text} onClick={() => narrow(filter.failureText === text ? "" : text)}>
          <b>{count(many)}</b> <span>{text}</span>
        </button>
      ))}
      {reasons.length > SHOWN_MAX && <span class="hint">and {reasons.length - SHOWN_MAX} other faults</span>}
    </div>
  );
}
