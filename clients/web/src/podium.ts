// Podium in the browser (and in Node): submit tasks, watch them, be an agent.
//
//   import { connect } from "/podium.js"; // in Node: from "podium-web"
//   const podium = connect();
//   const task = await podium.submit({ type: "text.summarize", payload: "..." });
//   console.log(await task.result());
import type { WatchAgentsResponseJson } from "./gen/podium/v1/agent_registry_pb.js";
import type { BridgeEventsJson, BridgeResponseJson, OverviewJson } from "./gen/podium/v1/bridge_pb.js";
import type { EventJson } from "./gen/podium/v1/event_pb.js";
import type { TaskJson, TaskSpecJson } from "./gen/podium/v1/task_pb.js";
import type {
  CancelTasksRequestJson, CancelTasksResponseJson, ListTasksRequestJson, RequeueRefusalJson, RequeueTasksRequestJson,
  RequeueTasksResponseJson, WatchEventsRequestJson, WatchTasksRequestJson,
} from "./gen/podium/v1/task_scheduler_pb.js";
import type { WatchWindowsRequestJson, WindowJson } from "./gen/podium/v1/analytics_pb.js";
import { Agent, type AgentOptions } from "./agent.js";
import { payload, value } from "./data.js";
import { type Ask, PodiumError, type SocketMaker, type Spelling, type State, Wire } from "./wire.js";

export { Agent, FinalFailure, type AgentOptions, type Work } from "./agent.js";
export { decode, encode, milliseconds, number, payload, span, time, value } from "./data.js";
export { PodiumError, type SocketMaker, type Spelling, type State } from "./wire.js";

/** What a task is asked with; a payload of any shape is encoded. */
export type TaskOptions = Omit<TaskSpecJson, "payload"> & { type: string; payload?: unknown };

export interface NamedEvent {
  name: string;
  event: EventJson;
}

export interface Options {
  /** Of the bridge, as `ws://host:7700/ws`; in a page its own host by default. */
  url?: string;
  token?: string;
  /** What opens connections where there is no global WebSocket: Node before 22. */
  WebSocket?: SocketMaker;
  /** How messages are spelled: JSON by default, `binary` of `podium-web/binary` otherwise. */
  spelling?: Spelling;
}

export interface Canceled {
  taskIds: string[];
  /** Tasks that descend from them and were canceled with them. */
  descendants: number;
}

export interface Requeued {
  taskIds: string[];
  /** Why others that were meant were not, each reason once. */
  refusals: RequeueRefusalJson[];
}

/** The task ended without a result. */
export class TaskFailed extends Error {
  constructor(readonly task: TaskJson) {
    super(task.failure?.message || `The task ended as ${task.state}.`);
    this.name = "TaskFailed";
  }
}

/** Begins ids that are made for repeats after a lost connection; schedulers keep them 10 minutes. */
const RETRY_PREFIX = "podium-retry:";
const REPEAT_MS_MAX = 5 * 60_000;

/** Batches that wait for who iterates; the watch rests beyond it and goes on where it was. */
const BATCHES_MAX = 64;

const TERMINAL = /^STATE_(COMPLETED|FAILED|CANCELED|EXPIRED|REJECTED)$/;

/** Opens a connection that keeps itself open. */
export function connect(options: Options = {}): Podium {
  return new Podium(new Wire(options.url ?? here(), options.token, options.WebSocket, options.spelling));
}

function here(): string {
  if (!globalThis.location) throw new TypeError("Outside of a page, connect needs a url.");
  const { protocol, host } = globalThis.location;
  return `${protocol === "https:" ? "wss" : "ws"}://${host}/ws`;
}

/** Repeats a call about many tasks until all that it means were seen. */
async function follow<Request extends { pageToken?: string }>(
  request: Request, ask: (request: Request) => Promise<{ nextPageToken?: string }>,
): Promise<void> {
  let next = request;
  for (;;) {
    const { nextPageToken } = await ask(next);
    if (!nextPageToken) return;
    next = { ...request, pageToken: nextPageToken };
  }
}

export class Handle {
  constructor(readonly taskId: string, readonly cursor: string, readonly podium: Podium) {}

  /** The result, decoded; throws TaskFailed when there is none. */
  async result(): Promise<unknown> {
    for (;;) {
      const { task } = await this.podium.ask({ get: { taskId: this.taskId, wait: "20s" } });
      const found = task?.task;
      if (!found?.state || !TERMINAL.test(found.state)) continue;
      if (found.state !== "STATE_COMPLETED") throw new TaskFailed(found);
      return value(found.result);
    }
  }

  /** What happens to it, until it ends. */
  async *events(): AsyncGenerator<NamedEvent> {
    for await (const each of this.podium.watch({ taskIds: [this.taskId], cursor: this.cursor })) {
      yield each;
      if (/:(completed|failed|canceled|expired|rejected)$/.test(each.name)) return;
    }
  }

  async cancel(reason = ""): Promise<void> {
    await this.podium.ask({ cancel: { taskIds: [this.taskId], reason } });
  }
}

export class Podium {
  constructor(readonly wire: Wire) {}

  get state(): State {
    return this.wire.state;
  }

  /** One request in the contract's own words; throws PodiumError when it is refused. */
  ask(message: Ask): Promise<BridgeResponseJson> {
    return this.wire.ask(message);
  }

  /**
   * Submits one task; a repeat after a lost connection makes no second one. Where the connection
   * stays away for minutes it is not repeated: SUBMIT_UNANSWERED. With a requestId it may be done
   * again, for 24 hours.
   */
  async submit(task: TaskOptions): Promise<Handle> {
    const [handle] = await this.submitAll([task]);
    return handle!;
  }

  /** Submits up to 1,000 tasks, all or none. */
  async submitAll(tasks: TaskOptions[]): Promise<Handle[]> {
    const specs = tasks.map(({ payload: content, ...rest }) => ({
      requestId: RETRY_PREFIX + crypto.randomUUID(),
      ...rest,
      ...(content === undefined ? {} : { payload: payload(content) }),
    }));
    const kept = tasks.every(({ requestId }) => requestId);
    const { submitted } = await this.wire.ask({ submit: { tasks: specs } }, kept ? Infinity : REPEAT_MS_MAX);
    // From before the submit: whatever happened to the tasks is told.
    const cursor = submitted?.cursor ?? "";
    return (submitted?.taskIds ?? []).map((id) => new Handle(id, cursor, this));
  }

  async get(taskId: string): Promise<TaskJson> {
    return (await this.ask({ get: { taskId } })).task!.task!;
  }

  async list(request: ListTasksRequestJson = {}): Promise<{ tasks: TaskJson[]; next: string }> {
    const { tasks } = await this.ask({ list: request });
    return { tasks: tasks?.tasks ?? [], next: tasks?.nextPageToken ?? "" };
  }

  /**
   * Cancels tasks: those named, or all that a filter means, however many; `told` hears how many so
   * far. What was canceled before an error stays so.
   */
  async cancel(request: CancelTasksRequestJson, told = (_: number) => {}): Promise<Canceled> {
    const canceled: Canceled = { taskIds: [], descendants: 0 };
    await follow(request, async (cancel) => {
      const answer: CancelTasksResponseJson = (await this.ask({ cancel })).canceled ?? {};
      canceled.taskIds.push(...(answer.taskIds ?? []));
      canceled.descendants += Number(answer.descendantCount ?? 0);
      told(canceled.taskIds.length);
      return answer;
    });
    return canceled;
  }

  /** Revives dead letters, as `cancel` cancels, and tells why others were not. */
  async requeue(request: RequeueTasksRequestJson, told = (_: number) => {}): Promise<Requeued> {
    const taskIds: string[] = [];
    const refusals = new Map<string, RequeueRefusalJson>();
    await follow(request, async (requeue) => {
      const answer: RequeueTasksResponseJson = (await this.ask({ requeue })).requeued ?? {};
      taskIds.push(...(answer.taskIds ?? []));
      for (const refusal of answer.refusals ?? []) {
        const before = Number(refusals.get(refusal.reason!)?.count ?? 0);
        refusals.set(refusal.reason!, { ...refusal, count: String(before + Number(refusal.count ?? 0)) });
      }
      told(taskIds.length);
      return answer;
    });
    return { taskIds, refusals: [...refusals.values()] };
  }

  /** Events of some tasks, each once and in order, over every reconnect. */
  watch(request: WatchTasksRequestJson): AsyncGenerator<NamedEvent> {
    return this.#events((cursor) => ({ watch: { ...request, cursor } }), request.cursor);
  }

  /** The whole event log. */
  watchEvents(request: WatchEventsRequestJson = {}): AsyncGenerator<NamedEvent> {
    return this.#events((cursor) => ({ watchEvents: { ...request, cursor } }), request.cursor);
  }

  /** Agents: `take` gets all of them first, then each change; returns the end. */
  watchAgents(minInterval: string, take: (change: WatchAgentsResponseJson) => void): () => void {
    return this.wire.watch({
      ask: () => ({ watchAgents: { minInterval } }),
      take: (response) => response.agents && take(response.agents),
      fail: () => {},
    });
  }

  /** Windows of the analytics: `take` gets new and changed ones; returns the end. */
  watchWindows(request: WatchWindowsRequestJson, take: (windows: WindowJson[]) => void): () => void {
    return this.wire.watch({
      ask: () => ({ watchWindows: request }),
      take: (response) => take(response.windows?.windows ?? []),
      fail: () => {},
    });
  }

  /** What waits and runs, each second: `take` gets the last ten minutes first; returns the end. */
  watchOverview(take: (overview: OverviewJson) => void, fail = (_: PodiumError) => {}): () => void {
    return this.wire.watch({
      ask: () => ({ watchOverview: {} }),
      take: (response) => response.overview && take(response.overview),
      fail,
    });
  }

  /** Becomes an agent: tasks are given to `handle` until `stop`. */
  agent(options: AgentOptions): Agent {
    return new Agent(this.wire, options);
  }

  close(): void {
    this.wire.close();
  }

  async *#events(ask: (cursor: string) => Ask, from = ""): AsyncGenerator<NamedEvent> {
    let cursor = from;
    let wake = () => {};
    let failure: Error | undefined;
    let end: (() => void) | undefined;
    const batches: BridgeEventsJson[] = [];
    const rest = () => {
      end?.();
      end = undefined;
    };
    const begin = () => {
      end = this.wire.watch({
        ask: () => ask(cursor),
        take: ({ events }) => {
          if (!events) return;
          if (Number(events.skippedCount ?? 0) > 0) {
            // We were so slow that the bridge left some out: they are still in the log.
            rest();
            begin();
            return;
          }
          cursor = events.cursor ?? cursor;
          batches.push(events);
          if (batches.length >= BATCHES_MAX) rest();
          wake();
        },
        fail: (error) => {
          failure = error;
          wake();
        },
      });
    };
    begin();
    try {
      for (;;) {
        for (let batch = batches.shift(); batch; batch = batches.shift()) {
          const names = batch.names ?? [];
          for (const [index, event] of (batch.events ?? []).entries()) {
            yield { name: names[index] ?? "", event };
          }
        }
        if (failure) throw failure;
        if (!end) begin();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      rest();
    }
  }
}
