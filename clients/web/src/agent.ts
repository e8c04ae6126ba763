// An agent in JavaScript: the same frames, leases and promises as over gRPC.
import type {
  AgentFrameJson, AssignJson, LeaseRefJson, ReadyJson, RefusalJson, RenewAckJson, ResultJson,
  RouterFrameJson, TuneJson,
} from "./gen/podium/v1/session_pb.js";
import type { CapabilityJson } from "./gen/podium/v1/agent_pb.js";
import type { TaskSpecJson } from "./gen/podium/v1/task_pb.js";
import { isTooLarge, milliseconds, payload, plain, value } from "./data.js";
import { PodiumError, type Wire } from "./wire.js";

/** What a handler gets beside the payload. */
export interface Work {
  readonly taskId: string;
  readonly type: string;
  readonly attempt: number;
  readonly spec: TaskSpecJson;
  /** The payload: parsed JSON, text, or bytes. */
  readonly payload: unknown;
  /** Aborted when the task was canceled or the lease is lost. */
  readonly signal: AbortSignal;
  /** Reports a share from 0 to 1, a message, and a piece of the result. */
  progress(fraction: number, message?: string, partial?: unknown): void;
}

export type Handle = (work: Work) => unknown;

export interface AgentOptions {
  /** Lower case letters, digits and hyphens; keep it over reloads to keep statistics. */
  agentId: string;
  /** Names, or names with proficiency and version. */
  capabilities: (string | CapabilityJson)[];
  handle: Handle;
  name?: string;
  maxConcurrency?: number;
  labels?: Record<string, string>;
  /** With why, when what the agent says of itself was refused for good. */
  onstate?: (state: AgentState, why?: PodiumError) => void;
}

/** The last three are final. */
export type AgentState = "connecting" | "ready" | "stopped" | "superseded" | "refused";

const REASON = /^[A-Z][A-Z0-9_]{1,61}[A-Z0-9]$/;
const FAILURE_LENGTH_MAX = 4_096;
const MESSAGE_LENGTH_MAX = 1_024;

/** Throw it from a handler: the task fails for good instead of being tried again. */
export class FinalFailure extends Error {
  /** The reason is for programs: capital letters, digits and underscores, up to 63. */
  constructor(message: string, readonly reason = "FAILED") {
    super(message);
    if (!REASON.test(reason)) throw new RangeError(`Not a reason, as BAD_CARD is one: ${reason}`);
    this.name = "FinalFailure";
  }
}

const FINAL_STATES: ReadonlySet<AgentState> = new Set(["stopped", "superseded", "refused"]);
/** Of a refused Hello: the same words will get the same answer. */
const FINAL_CODES: ReadonlySet<string> = new Set(["INVALID_ARGUMENT", "PERMISSION_DENIED"]);

interface Held {
  lease: LeaseRefJson;
  abort: AbortController;
  result: ResultJson | undefined;
  reports: number;
  /** Lets it begin, where the router is to say first that it still holds the lease. */
  believe: (() => void) | undefined;
}

/** A hidden page's timers fire once a second at best, and a router waits 5 s for an ack. */
const PULSE_MS = 1_000;
const LATE_MS = 1_000;
/** How long what comes after a standstill counts as from before it. */
const SETTLE_MS = 1_000;

export class Agent {
  state: AgentState = "connecting";
  /** Why it is in the state "refused". */
  refusal: PodiumError | undefined;
  completed = 0;
  failed = 0;

  #wire: Wire;
  #options: AgentOptions;
  #instanceId = crypto.randomUUID();
  #resumeToken = "";
  #lastSeq = "0";
  #held = new Map<string, Held>();
  #silence: () => void;
  #timers: ReturnType<typeof setInterval>[] = [];
  #beatMs = 15_000;
  #renewMs = 10_000;
  #spokeMs = 0;
  #again: ReturnType<typeof setTimeout> | undefined;
  #draining: string | undefined;
  #farewell: { reason: string } | undefined;
  #done = () => {};
  #pulse: ReturnType<typeof setInterval>;
  #pulseMs = Date.now();
  #doubtfulUntilMs = 0;
  #asked: LeaseRefJson[] = [];

  constructor(wire: Wire, options: AgentOptions) {
    this.#wire = wire;
    this.#options = options;
    this.#pulse = setInterval(() => this.#beatPulse(), PULSE_MS);
    // Of Node, whose programs it must not keep alive.
    (this.#pulse as { unref?: () => void }).unref?.();
    this.#silence = wire.speak(options.agentId, {
      opened: () => this.#opened(),
      closed: () => this.#setState("connecting"),
      take: (frame) => this.#take(frame),
      refused: (error) => this.#unheard(error),
    });
  }

  /** Tasks it works on now. */
  get working(): number {
    let count = 0;
    for (const held of this.#held.values()) if (!held.result) count += 1;
    return count;
  }

  /** Takes nothing new; what it has is finished. */
  drain(reason = "asked to"): void {
    this.#draining = plain(reason, MESSAGE_LENGTH_MAX);
    // Before Ready there is no session to drain: it is said then.
    if (this.state === "ready") this.#say({ drain: { reason: this.#draining } });
  }

  /** Takes nothing new, finishes what it has, and leaves: nothing goes back, no attempt is lost. */
  async leave(reason = "asked to"): Promise<void> {
    const done = new Promise<void>((resolve) => {
      this.#done = resolve;
    });
    this.drain(reason);
    if (this.#held.size > 0) await done;
    this.stop(reason);
  }

  /** Leaves; tasks that still run go back. */
  stop(reason = "stopped"): void {
    if (FINAL_STATES.has(this.state)) return;
    for (const { abort } of this.#held.values()) abort.abort(new Error(reason));
    const goodbye = { reason: plain(reason, MESSAGE_LENGTH_MAX) };
    if (this.state === "ready") {
      this.#say({ goodbye });
      this.#end("stopped");
      return;
    }
    // Its Hello may be on the way: should a session come of it, that ends then.
    this.#farewell = goodbye;
    clearTimeout(this.#again);
    this.#setState("stopped");
    this.#done();
  }

  #opened(): void {
    if (this.#farewell) this.#silence();
    else this.#hello();
  }

  #end(state: AgentState): void {
    clearTimeout(this.#again);
    this.#setState(state);
    this.#silence();
    this.#done();
  }

  #setState(state: AgentState): void {
    if (FINAL_STATES.has(this.state)) return;
    if (FINAL_STATES.has(state)) clearInterval(this.#pulse);
    if (state !== "ready") for (const timer of this.#timers.splice(0)) clearInterval(timer);
    if (this.state === state) return;
    this.state = state;
    this.#options.onstate?.(state, this.refusal);
  }

  #say(...frames: Omit<AgentFrameJson, "agentId">[]): void {
    const agentId = this.#options.agentId;
    this.#spokeMs = performance.now();
    this.#wire.frames(frames.map((frame) => ({ agentId, ...frame })));
  }

  #hello(): void {
    const { name, capabilities, labels, maxConcurrency } = this.#options;
    this.#say({
      hello: {
        instanceId: this.#instanceId,
        capabilities: capabilities.map((each) => typeof each === "string" ? { name: each } : each),
        maxConcurrency: maxConcurrency ?? 1,
        sdk: "podium-web/0.1.0",
        inFlight: [...this.#held.values()].map(({ lease }) => lease),
        resumeToken: this.#resumeToken,
        lastSeq: this.#lastSeq,
        draining: this.#draining !== undefined,
        ...(name ? { name } : {}),
        ...(labels ? { labels } : {}),
      },
    });
  }

  #take(frame: RouterFrameJson): void {
    if (frame.seq) this.#lastSeq = frame.seq;
    if (this.#farewell) this.#parted(frame);
    else if (frame.ready) this.#ready(frame.ready);
    else if (frame.assign) void this.#assigned(frame.assign);
    else if (frame.renewAck) this.#renewed(frame.renewAck);
    else if (frame.resultAck) this.#forget(frame.resultAck.lease);
    else if (frame.cancel) this.#cancel(frame.cancel.lease, frame.cancel.reason ?? "CANCELED");
    else if (frame.recall) for (const lease of frame.recall.leases ?? []) this.#lose(lease);
    else if (frame.probe) this.#say({ probeReply: { nonce: frame.probe.nonce ?? "0" } });
    else if (frame.tune) this.#pace(frame.tune);
    else if (frame.superseded) this.#end("superseded");
    else if (frame.refusal) this.#refused(frame.refusal);
  }

  #parted(frame: RouterFrameJson): void {
    if (frame.ready) this.#say({ goodbye: this.#farewell! });
    if (frame.ready || frame.refusal || frame.superseded) this.#silence();
  }

  #ready(ready: ReadyJson): void {
    this.#resumeToken = ready.resumeToken ?? "";
    for (const { lease, verdict } of ready.verdicts ?? []) {
      if (verdict !== "VERDICT_KEEP") this.#lose(lease);
      else this.#held.get(key(lease))?.believe?.();
    }
    this.#setState("ready");
    if (this.#draining !== undefined) this.drain(this.#draining);
    this.#pace(ready);
    for (const { result } of this.#held.values()) if (result) this.#say({ result });
  }

  /** Keeps to the intervals of the router; one that is not set stays as it is. */
  #pace(told: ReadyJson | TuneJson): void {
    this.#renewMs = milliseconds(told.renewInterval) || this.#renewMs;
    this.#beatMs = milliseconds(told.heartbeatInterval) || this.#beatMs;
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#timers.push(setInterval(() => this.#renew(), this.#renewMs));
    this.#timers.push(setInterval(() => this.#beat(), this.#beatMs / 4));
  }

  /** Whatever was said is a sign of life: a heartbeat is for when there was nothing to say. */
  #beat(): void {
    if (performance.now() - this.#spokeMs >= this.#beatMs * 0.75) this.#say({ heartbeat: {} });
  }

  #renew(): void {
    const leases = [...this.#held.values()].map(({ lease }) => lease);
    if (leases.length > 0) this.#say({ renew: { leases } });
    // A result whose acknowledgement got lost is repeated until it is settled.
    for (const { result } of this.#held.values()) if (result) this.#say({ result });
  }

  async #assigned(assign: AssignJson): Promise<void> {
    const lease: LeaseRefJson = { taskId: assign.taskId!, leaseEpoch: assign.leaseEpoch! };
    const known = this.#held.get(key(lease));
    // It is in work already, and what was said of it went down with a connection.
    if (known) return this.#say(known.result ? { result: known.result } : { ack: { lease } });
    if (this.#draining !== undefined) return this.#say({ nack: { lease, reason: "REASON_DRAINING" } });
    const held: Held = {
      lease, abort: new AbortController(), result: undefined, reports: 0, believe: undefined,
    };
    this.#held.set(key(lease), held);
    this.#say({ ack: { lease } });
    // What came with it may say that it is over. Then it never begins: it may be another's.
    await (this.#doubtful ? this.#word(held) : undefined);
    if (!this.#held.has(key(lease))) return;
    const result = held.abort.signal.aborted ? { canceled: {} } : await this.#run(assign, held);
    if (!this.#held.has(key(lease))) return;
    held.result = { lease, ...result };
    this.#say({ result: held.result });
  }

  /** Whether what is read now may be from before a standstill: a page that was frozen, say. */
  get #doubtful(): boolean {
    return Date.now() < this.#doubtfulUntilMs || this.#stood;
  }

  get #stood(): boolean {
    return Math.abs(Date.now() - this.#pulseMs) > PULSE_MS + LATE_MS;
  }

  #beatPulse(): void {
    if (this.#stood) this.#doubtfulUntilMs = Date.now() + SETTLE_MS;
    this.#pulseMs = Date.now();
  }

  /** Waits until the router has said whether it still holds a lease, which a renewal asks it. */
  #word(held: Held): Promise<void> {
    this.#asked.push(held.lease);
    if (this.#asked.length === 1) {
      queueMicrotask(() => this.#say({ renew: { leases: this.#asked.splice(0) } }));
    }
    return new Promise((resolve) => {
      held.believe = resolve;
    });
  }

  #renewed({ held, lost }: RenewAckJson): void {
    for (const lease of held ?? []) this.#held.get(key(lease))?.believe?.();
    for (const lease of lost ?? []) this.#lose(lease);
  }

  async #run(assign: AssignJson, held: Held): Promise<ResultJson> {
    try {
      const found = await this.#options.handle(this.#work(assign, held));
      if (held.abort.signal.aborted) return { canceled: {} };
      const success = payload(found);
      if (isTooLarge(success)) {
        throw new FinalFailure("The result is larger than 256 KiB.", "RESULT_TOO_LARGE");
      }
      this.completed += 1;
      return { success };
    } catch (error) {
      if (held.abort.signal.aborted) return { canceled: {} };
      this.failed += 1;
      const isFinal = error instanceof FinalFailure;
      const reason = isFinal ? error.reason : "HANDLER_FAILED";
      return { failure: { reason, message: said(error), retryable: !isFinal } };
    }
  }

  #work(assign: AssignJson, held: Held): Work {
    const spec = assign.spec ?? {};
    return {
      taskId: assign.taskId!,
      type: spec.type ?? "",
      attempt: assign.attempt ?? 1,
      spec,
      payload: value(spec.payload),
      signal: held.abort.signal,
      progress: (fraction, message = "", partial) => {
        const piece = partial === undefined ? undefined : payload(partial);
        if (piece && isTooLarge(piece)) {
          throw new RangeError("A piece of the result has at most 256 KiB.");
        }
        held.reports += 1;
        this.#say({
          progress: {
            lease: held.lease,
            reportSeq: String(held.reports),
            fraction: Math.min(1, Math.max(0, fraction)),
            message: plain(message, MESSAGE_LENGTH_MAX),
            ...(piece ? { partial: piece } : {}),
          },
        });
      },
    };
  }

  #cancel(lease: LeaseRefJson | undefined, reason: string): void {
    const held = this.#held.get(key(lease));
    held?.abort.abort(new Error(reason));
    held?.believe?.();
  }

  #lose(lease: LeaseRefJson | undefined): void {
    const held = this.#held.get(key(lease));
    this.#forget(lease);
    held?.abort.abort(new Error("LEASE_LOST"));
    held?.believe?.();
  }

  #forget(lease: LeaseRefJson | undefined): void {
    this.#held.delete(key(lease));
    if (this.#held.size === 0) this.#done();
  }

  #refused({ closing, retryAfter, ...refusal }: RefusalJson): void {
    if (!closing) return this.#turnedAway(new PodiumError(refusal));
    // The session is over and the connection is not: introduce ourselves again, with our leases.
    this.#setState("connecting");
    this.#helloIn(Math.max(200, milliseconds(retryAfter)));
  }

  #unheard(error: PodiumError): void {
    const { code, agentId, retryAfterMs } = error;
    if (agentId === this.#options.agentId) this.#turnedAway(error);
    // Our Hello found no router, or no place: until one is heard nothing is done here.
    const passes = code === "UNAVAILABLE" || code === "RESOURCE_EXHAUSTED";
    if (this.state === "connecting" && passes) this.#helloIn(Math.max(200, retryAfterMs));
  }

  /** Ends it when its Hello was refused, which is all that is said while connecting, for good. */
  #turnedAway(why: PodiumError): void {
    if (this.state !== "connecting" || !FINAL_CODES.has(why.code)) return;
    this.refusal = why;
    for (const { abort } of this.#held.values()) abort.abort(why);
    this.#end("refused");
  }

  #helloIn(ms: number): void {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#hello(), ms + Math.random() * 2_000);
  }
}

/** What was thrown, as text, whatever it is: without a result its lease would be renewed for ever. */
function said(thrown: unknown): string {
  try {
    return plain(String(thrown instanceof Error ? thrown.message : thrown), FAILURE_LENGTH_MAX);
  } catch {
    return "What the handler threw has no text.";
  }
}

function key(lease: LeaseRefJson | undefined): string {
  return `${lease?.taskId}/${lease?.leaseEpoch}`;
}
