// A task by form, and what becomes of it, at once.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import { type Handle, PodiumError, type TaskOptions, TaskFailed, value } from "../podium";
import { short } from "./format";
import { Act, Badge, Empty, entered, Field, Panel } from "./parts";
import { route, to } from "./route";
import { agents, podium, told } from "./store";
import { parsed } from "./task";

interface Sent {
  handle: Handle;
  type: string;
  state: string;
  note: string;
}

const sent = signal<Sent[]>([]);
const type = signal("");
const content = signal("");
const priority = signal(5);
const many = signal(1);
const more = signal<Record<string, string>>({});

export function Submit() {
  const [error, setError] = useState<PodiumError | Error>();
  const like = route.value.query.get("like");
  useEffect(() => {
    if (like) void podium.get(like).then(fill).catch(() => {});
  }, [like]);
  const submit = async () => {
    setError(undefined);
    try {
      const handles = await podium.submitAll(Array.from({ length: many.value }, task));
      const entries = handles.map((handle) => ({ handle, type: type.value, state: "STATE_QUEUED", note: "" }));
      sent.value = [...entries.slice(0, 20), ...sent.value].slice(0, 20);
      for (const entry of entries.slice(0, 20)) void follow(entry);
    } catch (problem) {
      setError(problem instanceof Error ? problem : new Error(String(problem)));
    }
  };
  const names = [...new Set([...agents.value.values()].flatMap((agent) => (agent.capabilities ?? []).map(({ name }) => name!)))].sort();
  const set = (name: string) => (event: Event) => {
    more.value = { ...more.value, [name]: (event.currentTarget as HTMLInputElement).value };
  };
  const text = (name: string) => ({ value: more.value[name] ?? "", onInput: set(name) });
  return (
    <div class="page">
      <div class="title"><h1>Submit a task</h1></div>
      <div class="columns">
        <Panel>
          <form
            class="form"
            onSubmit={(event) => {
              event.preventDefault();
              void submit();
            }}
          >
            <Field label="Type" hint="what kind of work; an agent must be able to do it">
              <input list="types" required autocomplete="off" spellcheck={false} placeholder="text.summarize" value={type.value} onInput={(event) => { type.value = entered(event); }} />
              <datalist id="types">{names.map((name) => <option key={name} value={name} />)}</datalist>
            </Field>
            <Field label="Payload" hint="JSON or plain text, at most 256 KiB">
              <textarea rows={7} spellcheck={false} placeholder={'{ "text": "..." }'} value={content.value} onInput={(event) => { content.value = entered(event); }} />
            </Field>
            <div class="pair">
              <Field label={`Priority ${priority.value}`} hint="9 goes first">
                <input type="range" min="0" max="9" value={priority.value} onInput={(event) => { priority.value = Number(entered(event)); }} />
              </Field>
              <Field label="How many" hint="1 to 1,000">
                <input type="number" min="1" max="1000" value={many.value} onInput={(event) => { many.value = Math.min(1_000, Math.max(1, Number(entered(event)) || 1)); }} />
              </Field>
            </div>
            <details>
              <summary>More</summary>
              <div class="pair">
                <Field label="Needs" hint="capabilities, by comma"><input placeholder="the type itself" {...text("needs")} /></Field>
                <Field label="Retries" hint="after the first attempt"><input type="number" min="0" max="100" placeholder="by the profile" {...text("retries")} /></Field>
                <Field label="Time limit" hint="seconds an attempt"><input type="number" min="1" placeholder="none" {...text("limit")} /></Field>
                <Field label="Expires" hint="seconds from now"><input type="number" min="1" placeholder="never" {...text("expires")} /></Field>
                <Field label="Labels" hint="key=value, by comma"><input placeholder="team=search" {...text("labels")} /></Field>
                <Field label="Tenant"><input placeholder="yours" {...text("tenant")} /></Field>
              </div>
            </details>
            {error && <p class="alert" role="alert">{told(error)}</p>}
            <button type="submit" class="button primary">Submit {many.value > 1 ? `${many.value} tasks` : ""}</button>
          </form>
        </Panel>
        <Panel title="Submitted here" hint="since this page was opened">
          {sent.value.length === 0
            ? (
              <Empty title="Nothing yet">
                <p>The task is durable before it gets its id. Then it waits for the best agent that can do it; watch it here, or open it to see why that agent was chosen.</p>
              </Empty>
            )
            : <ul class="sent">{sent.value.map((each) => <SentRow key={each.handle.taskId} of={each} />)}</ul>}
        </Panel>
      </div>
    </div>
  );
}

function SentRow({ of: { handle, type: kind, state, note } }: { of: Sent }) {
  return (
    <li>
      <a class="id" title={handle.taskId} href={to("tasks", handle.taskId)}>{short(handle.taskId)}</a>
      <span class="clip grow">{kind}{note && <span class="under clip">{note}</span>}</span>
      <Badge of={state} />
      {/QUEUED|RUNNING|RETRY/.test(state) && <Act tone="quiet" run={() => handle.cancel("from the dashboard")}>Cancel</Act>}
    </li>
  );
}

function task(): TaskOptions {
  const { needs, retries, limit, expires, labels, tenant } = more.value;
  const list = (text: string) => text.split(",").map((each) => each.trim()).filter(Boolean);
  return {
    type: type.value.trim(),
    priority: priority.value,
    ...(content.value.trim() ? { payload: parsed(content.value) } : {}),
    ...(needs?.trim() ? { requiredCapabilities: list(needs) } : {}),
    ...(retries ? { retryPolicy: { maxRetries: Number(retries) } } : {}),
    ...(limit ? { attemptTimeout: `${Number(limit)}s` } : {}),
    ...(expires ? { deadlineAfter: `${Number(expires)}s` } : {}),
    ...(labels?.trim() ? { labels: Object.fromEntries(list(labels).map((each) => each.split("=", 2) as [string, string])) } : {}),
    ...(tenant?.trim() ? { tenant: tenant.trim() } : {}),
  };
}

function fill(known: TaskJson): void {
  const spec = known.spec ?? {};
  type.value = spec.type ?? "";
  priority.value = spec.priority ?? 5;
  const found = value(spec.payload);
  content.value = typeof found === "string" ? found : found === undefined || found instanceof Uint8Array ? "" : JSON.stringify(found, null, 2);
  more.value = {
    needs: (spec.requiredCapabilities ?? []).join(", "),
    retries: spec.retryPolicy?.maxRetries === undefined ? "" : String(spec.retryPolicy.maxRetries),
    labels: Object.entries(spec.labels ?? {}).map((each) => each.join("=")).join(", "),
  };
}

const STATES: Record<string, string> = {
  "task:queued": "STATE_QUEUED", "task:assigned": "STATE_ASSIGNED", "task:started": "STATE_RUNNING",
  "task:retrying": "STATE_RETRY_WAIT", "task:completed": "STATE_COMPLETED", "task:failed": "STATE_FAILED",
  "task:canceled": "STATE_CANCELED", "task:expired": "STATE_EXPIRED", "task:input_required": "STATE_INPUT_REQUIRED",
};

async function follow(entry: Sent): Promise<void> {
  const show = (part: Partial<Sent>) => {
    sent.value = sent.value.map((each) => (each.handle === entry.handle ? { ...each, ...part } : each));
  };
  try {
    for await (const { name, event } of entry.handle.events()) {
      const state = STATES[name];
      if (state) show({ state });
      if (event.progress?.message) show({ note: event.progress.message });
      if (name === "task:started") show({ note: `on ${event.agentId}` });
    }
    const result = await entry.handle.result();
    show({ note: typeof result === "string" ? result : JSON.stringify(result) ?? "" });
  } catch (error) {
    show({ note: error instanceof TaskFailed ? error.message : told(error) });
  }
}
