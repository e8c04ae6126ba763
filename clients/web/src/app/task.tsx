// One task: what it is, what happened, why, and what can be done about it.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { GetTraceRequestJson, GetTraceResponseJson } from "../gen/podium/v1/analytics_pb";
import type { EventJson } from "../gen/podium/v1/event_pb";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import type { ExplainTaskResponseJson } from "../gen/podium/v1/task_scheduler_pb";
import { milliseconds, number, payload, PodiumError, time } from "../podium";
import { Content } from "./content";
import { Attempts } from "./decisions";
import { ago, count, duration, moment, percent, word } from "./format";
import { Act, Badge, Bar, Copy, Empty, entered, Panel, toast } from "./parts";
import { to } from "./route";
import { podium, told } from "./store";
import { ended } from "./tasks";
import { Waterfall } from "./waterfall";

interface Known {
  task: TaskJson | undefined;
  explained: ExplainTaskResponseJson | undefined;
  trace: GetTraceResponseJson | undefined;
  error: string;
}

const NOTHING: Known = { task: undefined, explained: undefined, trace: undefined, error: "" };

function useTask(id: string): Known {
  const [known, setKnown] = useState(NOTHING);
  useEffect(() => {
    let live = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const merge = (part: Partial<Known>) => live && setKnown((before) => ({ ...before, ...part }));
    let fresh = 4;
    let ending = false;
    let asked: GetTraceRequestJson = { taskId: id };
    const load = async () => {
      timer = undefined;
      try {
        const [{ task }, { explanation }] = await Promise.all([
          podium.ask({ get: { taskId: id } }), podium.ask({ explain: { taskId: id } }),
        ]);
        merge({ task: task?.task, explained: explanation, error: "" });
        ending = ended(task?.task?.state) && Date.now() - time(task?.task?.endTime) < 20_000;
        const traceId = task?.task?.spec?.traceparent?.split("-")[1];
        if (traceId) asked = { traceId };
      } catch (error) {
        merge({ error: told(error) });
      }
      try {
        merge({ trace: (await podium.ask({ trace: asked })).trace });
      } catch (error) {
        if (!(error instanceof PodiumError)) throw error;
      }
      // Spans come a moment after the events they belong to.
      if (live && fresh > 0 && ending) {
        fresh -= 1;
        soon(1_000);
      }
    };
    const soon = (ms: number) => {
      timer ??= setTimeout(() => void load(), ms);
    };
    setKnown(NOTHING);
    void load();
    const events = podium.watch({ taskIds: [id], cursor: "now" });
    void (async () => {
      try {
        for await (const _ of events) {
          fresh = 4;
          soon(100);
        }
      } catch {
        // Without the watch the page shows what it loaded.
      }
    })();
    return () => {
      live = false;
      clearTimeout(timer);
      void events.return(undefined);
    };
  }, [id]);
  return known;
}

export function TaskPage({ id }: { id: string }) {
  const { task, explained, trace, error } = useTask(id);
  if (!task) {
    return (
      <div class="page">
        <div class="title"><h1 class="id">{id}</h1></div>
        <Panel>
          {error
            ? <Empty title="This task cannot be shown"><p>{error}</p><p><a href={to("tasks")}>All tasks</a></p></Empty>
            : <Empty title="Loading…" />}
        </Panel>
      </div>
    );
  }
  const decisions = explained?.decisions ?? [];
  return (
    <div class="page">
      <div class="title">
        <h1>{task.spec?.type}</h1>
        <Badge of={task.state} />
        <span class="id hint">{id}</span><Copy text={id} />
        <div class="action"><Actions task={task} /></div>
      </div>
      {explained?.waitingFor && <p class="note">{explained.waitingFor}</p>}
      {task.failure && <p class="alert"><b>{task.failure.reason}</b> {task.failure.message}</p>}
      {task.state === "STATE_INPUT_REQUIRED" && <Question key={task.questionEpoch} task={task} />}
      {task.state === "STATE_RUNNING" && (
        <div class="running">
          <Bar share={number(task.progressFraction)} tone="live" label={percent(number(task.progressFraction))} />
          <span class="hint">{percent(number(task.progressFraction))} {task.progressMessage}</span>
        </div>
      )}
      <div class="columns">
        <Panel title="About"><Facts task={task} /></Panel>
        <Panel title="What happened">
          <Timeline events={explained?.events ?? []} />
          {explained?.leftOutCount && <p class="note">{count(number(explained.leftOutCount))} more are left out.</p>}
        </Panel>
      </div>
      <Panel title="Trace" hint={trace?.traceId ? <span class="id">{trace.traceId}</span> : undefined}>
        {(trace?.spans ?? []).length > 0
          ? <Waterfall spans={trace!.spans!} />
          : <p class="mute">Spans appear a moment after the task has moved; analytics keeps the recent ones.</p>}
      </Panel>
      <Panel title="Attempts" hint="who was considered, and why one was chosen">
        {decisions.length > 0 || (task.attempts ?? []).length > 0
          ? <Attempts task={task} decisions={decisions} />
          : <p class="mute">No agent has started it yet.</p>}
      </Panel>
      <div class="columns">
        <Panel title="Payload"><Content of={task.spec?.payload} missing="It has no payload." /></Panel>
        <Panel title="Result"><Content of={task.result} missing={task.state === "STATE_COMPLETED" ? "It is empty." : ended(task.state) ? "It ended without one." : "There is none yet."} /></Panel>
      </div>
    </div>
  );
}

function Actions({ task }: { task: TaskJson }) {
  const id = task.taskId!;
  return (
    <>
      {!ended(task.state) && (
        <Act
          tone="danger" confirm="Cancel for good?"
          run={async () => {
            await podium.ask({ cancel: { taskIds: [id], reason: "from the dashboard" } });
            toast("The task is canceled.");
          }}
        >
          Cancel
        </Act>
      )}
      {task.state === "STATE_FAILED" && (
        <Act
          run={async () => {
            await podium.ask({ requeue: { taskIds: [id] } });
            toast("The task is queued again; its attempts count anew.", "good");
          }}
        >
          Requeue
        </Act>
      )}
      <a class="button quiet" href={to("submit", "", { like: id })}>Submit one like it</a>
    </>
  );
}

function Question({ task }: { task: TaskJson }) {
  const [answer, setAnswer] = useState("");
  return (
    <Panel title="It waits for an answer">
      <Content of={task.inputRequest} missing="The agent asks without saying what." />
      <div class="answer">
        <textarea rows={3} aria-label="Answer" placeholder="Your answer, as text or JSON" value={answer} onInput={(event) => setAnswer(entered(event))} />
        <Act
          tone="primary" disabled={!answer.trim()}
          run={async () => {
            // Names the question: another person's answer may have let the task ask the next one.
            const { taskId, questionEpoch } = task;
            await podium.ask({ provideInput: { taskId: taskId!, questionEpoch, input: payload(parsed(answer)) } });
            toast("The answer was taken; the task is queued again.", "good");
          }}
        >
          Answer
        </Act>
      </div>
    </Panel>
  );
}

/** JSON when it is JSON, else the text. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function Facts({ task }: { task: TaskJson }) {
  const spec = task.spec ?? {};
  const usage = task.usage;
  const facts: [string, ComponentChildren][] = [
    ["Created", <>{moment(task.createTime, true)} <span class="mute">({ago(task.createTime)})</span></>],
    ["Waited", task.startTime && duration(time(task.startTime) - time(task.createTime))],
    ["Took", task.endTime && duration(time(task.endTime) - time(task.createTime))],
    ["Agent", task.agentId && <a href={to("agents", task.agentId)}>{task.agentId}</a>],
    ["Priority", spec.priority ?? 5],
    ["Attempts", `${task.attemptCount ?? 0}, retries ${spec.retryPolicy?.maxRetries ?? "by the profile"}`],
    ["Needs", (spec.requiredCapabilities ?? []).length > 0 && <span class="chips">{spec.requiredCapabilities!.map((each) => <span class="chip" key={each}>{each}</span>)}</span>],
    ["Prefers", (spec.preferredCapabilities ?? []).join(", ")],
    ["Tenant", spec.tenant],
    ["Labels", Object.keys(spec.labels ?? {}).length > 0 && <span class="chips">{Object.entries(spec.labels!).map(([key, text]) => <a class="chip" key={key} href={to("tasks", "", { label: `${key}=${text}` })}>{key}={text}</a>)}</span>],
    ["Deadline", spec.deadline && moment(spec.deadline, true)],
    ["Next try", task.nextTime && !ended(task.state) && moment(task.nextTime)],
    ["Depends on", (spec.dependsOn ?? []).length > 0 && spec.dependsOn!.map((each) => <a class="id" key={each} href={to("tasks", each)}>{each} </a>)],
    ["Parent", spec.parentTaskId && <a class="id" href={to("tasks", spec.parentTaskId)}>{spec.parentTaskId}</a>],
    ["Used", usage && `${usage.inputTokens ?? 0} tokens in, ${usage.outputTokens ?? 0} out, cost ${usage.cost ?? 0}`],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (value || value === 0) && <><dt>{name}</dt><dd>{value}</dd></>)}
    </dl>
  );
}

function Timeline({ events }: { events: EventJson[] }) {
  const first = time(events[0]?.eventTime);
  return (
    <ol class="timeline">
      {events.map((event) => (
        <li key={event.seq} class={`event ${tone(event.type)}`}>
          <span class="event-time" title={moment(event.eventTime, true)}>+{duration(time(event.eventTime) - first)}</span>
          <span class="event-what">
            <b>{word(event.type)}</b> <span class="mute">{detail(event)}</span>
          </span>
        </li>
      ))}
    </ol>
  );
}

function tone(type: string | undefined): string {
  if (type === "TYPE_COMPLETED") return "good";
  if (/FAILED|EXPIRED|REJECTED/.test(type ?? "")) return "bad";
  return /RETRYING|HANDED|CANCELED|INPUT/.test(type ?? "") ? "warn" : "";
}

function detail(event: EventJson): string {
  const parts: string[] = [];
  if (event.attempt && !/CREATED|QUEUED$/.test(event.type ?? "")) parts.push(`attempt ${event.attempt}`);
  if (event.type === "TYPE_ASSIGNED") parts.push(`to ${event.routerId}`);
  else if (event.agentId) parts.push(event.agentId);
  if (event.started?.assignmentLatency) parts.push(`assigned in ${duration(milliseconds(event.started.assignmentLatency))}`);
  if (event.progress) parts.push(`${percent(Number(event.progress.fraction ?? 0))} ${event.progress.message ?? ""}`);
  if (event.completed?.runDuration) parts.push(`ran ${duration(milliseconds(event.completed.runDuration))}`);
  if (event.failed?.failure) parts.push(`${event.failed.failure.reason ?? ""} ${event.failed.failure.message ?? ""}`);
  if (event.retrying?.retryTime) parts.push(`again in ${duration(time(event.retrying.retryTime) - time(event.eventTime))}`);
  return parts.join(" · ");
}
