// Tasks to search, and the dead letters to bring back.
import { useEffect, useRef, useState } from "preact/hooks";
import type { TaskFilterJson, TaskJson, Task_StateJson } from "../gen/podium/v1/task_pb";
import type { RequeueRefusalJson } from "../gen/podium/v1/task_scheduler_pb";
import { milliseconds, number, time } from "../podium";
import { ago, count, duration, moment, percent, short, word } from "./format";
import { Act, Badge, Bar, Empty, entered, Panel, toast } from "./parts";
import { Reasons } from "./reasons";
import { route, to, turn } from "./route";
import { podium, told } from "./store";

const PAGE = 50;
const STATES: Task_StateJson[] = [
  "STATE_QUEUED", "STATE_ASSIGNED", "STATE_RUNNING", "STATE_RETRY_WAIT", "STATE_INPUT_REQUIRED",
  "STATE_DELAYED", "STATE_BLOCKED", "STATE_PAUSED", "STATE_COMPLETED", "STATE_FAILED",
  "STATE_CANCELED", "STATE_EXPIRED", "STATE_REJECTED",
];
const ENDED = /COMPLETED|FAILED|CANCELED|EXPIRED|REJECTED/;

/** Tells whether a state is an end. */
export function ended(state: string | undefined): boolean {
  return ENDED.test(state ?? "");
}

/** The filter that the address names. */
function filterOf(query: URLSearchParams, dead: boolean): TaskFilterJson {
  const filter: TaskFilterJson = {};
  const state = dead ? "STATE_FAILED" : query.get("state");
  if (state) filter.states = [state as Task_StateJson];
  for (const name of ["type", "tenant", "agentId", "failureText"] as const) {
    const text = query.get(name);
    if (text) filter[name] = text;
  }
  const [key, text] = (query.get("label") ?? "").split("=", 2);
  if (key && text !== undefined) filter.labels = { [key]: text };
  return filter;
}

interface Listing {
  tasks: TaskJson[];
  next: string;
  error: string;
  loading: boolean;
}

function useListing(filter: TaskFilterJson, page: string): Listing & { reload: () => void } {
  const [listing, setListing] = useState<Listing>({ tasks: [], next: "", error: "", loading: true });
  const [round, setRound] = useState(0);
  const asked = JSON.stringify([filter, page]);
  useEffect(() => {
    let live = true;
    const load = async () => {
      try {
        const found = await podium.list({ filter, pageSize: PAGE, pageToken: page });
        if (live) setListing({ ...found, error: "", loading: false });
      } catch (error) {
        if (live) setListing((known) => ({ ...known, error: told(error), loading: false }));
      }
    };
    void load();
    // Only the first page follows: rows that move under a reader's finger help nobody.
    const timer = page ? undefined : setInterval(() => !document.hidden && void load(), 2_000);
    return () => {
      live = false;
      clearInterval(timer);
    };
  }, [asked, round]);
  return { ...listing, reload: () => setRound(round + 1) };
}

export function Tasks({ dead = false }: { dead?: boolean }) {
  const query = route.value.query;
  const filter = filterOf(query, dead);
  const [pages, setPages] = useState<string[]>([]);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [progress, setProgress] = useState("");
  const [refusals, setRefusals] = useState<RequeueRefusalJson[]>([]);
  const key = query.toString();
  useEffect(() => {
    setPages([]);
    setChosen(new Set());
    setRefusals([]);
  }, [key, dead]);
  const page = pages[pages.length - 1] ?? "";
  const { tasks, next, error, loading, reload } = useListing(filter, page);
  const requeue = async (request: { taskIds?: string[]; filter?: TaskFilterJson }) => {
    setRefusals([]);
    try {
      const done = await podium.requeue(request, (many) => setProgress(`${count(many)} queued again so far`));
      toast(`${count(done.taskIds.length)} queued again.`, done.taskIds.length > 0 ? "good" : "");
      setRefusals(done.refusals);
      setChosen(new Set());
    } finally {
      setProgress("");
      reload();
    }
  };
  const cancel = async () => {
    try {
      const request = { filter, reason: "from the dashboard" };
      const done = await podium.cancel(request, (many) => setProgress(`${count(many)} canceled so far`));
      toast(`${count(done.taskIds.length)} canceled${done.descendants > 0 ? `, and ${count(done.descendants)} below them` : ""}.`);
    } finally {
      setProgress("");
      reload();
    }
  };
  return (
    <div class="page">
      <div class="title">
        <h1>{dead ? "Dead letters" : "Tasks"}</h1>
        {dead && <span class="hint">failed for good: look why, then queue them again</span>}
        {dead && tasks.length > 0 && (
          <div class="action">
            <Act disabled={chosen.size === 0} run={() => requeue({ taskIds: [...chosen] })}>
              Requeue {chosen.size > 0 ? count(chosen.size) : "chosen"}
            </Act>
            <Act confirm="Requeue all of them?" run={() => requeue({ filter })}>Requeue all that match</Act>
          </div>
        )}
        {!dead && query.size > 0 && tasks.some(({ state }) => !ended(state)) && (
          <div class="action">
            <Act tone="danger" confirm="Cancel all for good?" run={cancel}>Cancel all that match</Act>
          </div>
        )}
      </div>
      {progress && <p class="hint" role="status">{progress}</p>}
      {refusals.map((refusal) => <Refused key={refusal.reason} refusal={refusal} />)}
      <Filters page={dead ? "dead" : "tasks"} query={query} dead={dead} />
      {error && <p class="alert" role="alert">{error}</p>}
      {dead && <Reasons filter={filter} narrow={(failureText) => narrow("dead", query, { failureText })} />}
      <Panel class={loading ? "loading" : ""}>
        {tasks.length > 0
          ? <TaskTable tasks={tasks} chosen={dead ? chosen : undefined} choose={setChosen} />
          : !loading && <NoTasks dead={dead} filtered={key !== ""} />}
      </Panel>
      <nav class="pages" aria-label="Pages">
        <button type="button" class="button" disabled={pages.length === 0} onClick={() => setPages(pages.slice(0, -1))}>Newer</button>
        <button type="button" class="button" disabled={!next} onClick={() => setPages([...pages, next])}>Older</button>
      </nav>
    </div>
  );
}

/** Why some dead letters stay where they are, and when to try again. */
function Refused({ refusal: { reason, message, count: many, retryAfter } }: { refusal: RequeueRefusalJson }) {
  return (
    <p class="alert" role="alert">
      <b>{count(number(many))} not queued again</b> ({reason}): {message}
      {retryAfter && ` Try again in ${duration(milliseconds(retryAfter))}.`}
    </p>
  );
}

/** Changes some of the filters in the address. */
function narrow(page: string, query: URLSearchParams, part: Record<string, string>): void {
  turn(to(page, "", { ...Object.fromEntries(query), ...part }));
}

const TYPING_MS = 400;

function Filters({ page, query, dead }: { page: string; query: URLSearchParams; dead: boolean }) {
  const set = (name: string, text: string) => narrow(page, query, { [name]: text });
  const text = (name: string, placeholder: string) => (
    <Wanted placeholder={placeholder} wanted={query.get(name) ?? ""} set={(entry) => set(name, entry)} />
  );
  return (
    <div class="filters">
      {!dead && (
        <select aria-label="State" value={query.get("state") ?? ""} onChange={(event) => set("state", entered(event))}>
          <option value="">Any state</option>
          {STATES.map((state) => <option key={state} value={state}>{word(state)}</option>)}
        </select>
      )}
      {text("type", "Type")}
      {text("failureText", "Text of the failure")}
      {text("label", "Label, as key=value")}
      {text("tenant", "Tenant")}
      {text("agentId", "Agent")}
      {query.size > 0 && <button type="button" class="button quiet" onClick={() => turn(to(page))}>Clear</button>}
    </div>
  );
}

/** One filter as it is typed; it applies after a moment, with Enter, or when it is left. */
function Wanted(
  { placeholder, wanted, set }: { placeholder: string; wanted: string; set: (entry: string) => void },
) {
  // The page is drawn anew while somebody types, and must not take the half-typed word away.
  const [draft, setDraft] = useState(wanted);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const latest = useRef(set);
  latest.current = set;
  useEffect(() => setDraft(wanted), [wanted]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const apply = (entry: string) => {
    clearTimeout(timer.current);
    latest.current(entry.trim());
  };
  return (
    <input
      type="search" placeholder={placeholder} aria-label={placeholder} value={draft}
      onInput={(event) => {
        const entry = entered(event);
        setDraft(entry);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => apply(entry), TYPING_MS);
      }}
      onChange={(event) => apply(entered(event))}
    />
  );
}

function NoTasks({ dead, filtered }: { dead: boolean; filtered: boolean }) {
  if (filtered) return <Empty title="No task matches"><p>Loosen the filters above. Types and tenants match whole, failures by any part.</p></Empty>;
  if (dead) return <Empty title="No dead letters"><p>A task comes here when it has failed and no retry is left. Nothing is lost: it waits until somebody looks at it.</p></Empty>;
  return (
    <Empty title="No task yet">
      <p>A task is a piece of work with a type; an agent that can do that type gets it. Submit one <a href={to("submit")}>with the form</a>, or:</p>
      <pre>podium submit text.summarize --payload 'Hello' --watch</pre>
    </Empty>
  );
}

export function TaskTable(
  { tasks, chosen, choose, agents = true }: {
    tasks: TaskJson[]; /** Whether to tell who had them. */ agents?: boolean; chosen?: ReadonlySet<string> | undefined;
    choose?: (chosen: ReadonlySet<string>) => void;
  },
) {
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    choose?.(next);
  };
  const all = chosen !== undefined && tasks.every(({ taskId }) => chosen.has(taskId!));
  return (
    <div class="scroll-x">
      <table class="table rows fixed">
        <thead>
          <tr>
            {chosen && <th class="w30"><input type="checkbox" aria-label="Choose all" checked={all} onChange={() => choose?.(new Set(all ? [] : tasks.map(({ taskId }) => taskId!)))} /></th>}
            <th class={chosen ? "" : "w-task"}>Task</th><th class="wide">Type</th>{!chosen && <th class="w150">State</th>}<th class="number wide w90">Priority</th>
            <th class="number wide w90">Attempts</th>{agents && <th class="wide w-agent">Agent</th>}<th class="number wide w100">Took</th><th class="number w100">Created</th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <tr key={task.taskId}>
              {chosen && <td><input type="checkbox" aria-label={`Choose ${task.taskId}`} checked={chosen.has(task.taskId!)} onChange={() => toggle(task.taskId!)} /></td>}
              <td>
                <a class="id" title={task.taskId} href={to("tasks", task.taskId)}>{short(task.taskId)}</a>
                <div class="narrow clip">{task.spec?.type}</div>
                {task.failure && <div class="under clip bad-text">{task.failure.message || task.failure.reason}</div>}
              </td>
              <td class="clip wide">{task.spec?.type}</td>
              {!chosen && <td>
                <Badge of={task.state} />
                {task.state === "STATE_RUNNING" && number(task.progressFraction) > 0 && (
                  <Bar share={number(task.progressFraction)} tone="live" label={percent(number(task.progressFraction))} />
                )}
                {task.unschedulableReason && <div class="under bad-text">no agent can</div>}
              </td>}
              <td class="number wide">{task.spec?.priority ?? 5}</td>
              <td class="number wide">{task.attemptCount ?? 0}</td>
              {agents && <td class="clip wide">{task.agentId ? <a href={to("agents", task.agentId)}>{task.agentId}</a> : "–"}</td>}
              <td class="number wide">{task.endTime ? duration(time(task.endTime) - time(task.createTime)) : "–"}</td>
              <td class="number mute" title={moment(task.createTime, true)}>{ago(task.createTime)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
