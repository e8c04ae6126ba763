// One WebSocket that outlives its failures: it reconnects for ever, repeats what was not answered,
// and lets every watch go on where it stood.
import type {
  AgentFrameJson, RouterFrameJson,
} from "./gen/podium/v1/session_pb.js";
import type {
  BridgeErrorJson, BridgeRequestJson, BridgeResponseJson, NoticeJson,
} from "./gen/podium/v1/bridge_pb.js";

/** How messages are spelled on the wire; `podium-web/binary` holds the other one. */
export interface Spelling {
  readonly subprotocol: string;
  write(message: BridgeRequestJson): string | Uint8Array<ArrayBuffer>;
  read(data: unknown): BridgeResponseJson;
}

const JSON_TEXT: Spelling = {
  subprotocol: "podium.v1.json",
  write: (message) => JSON.stringify(message),
  read: (data) => JSON.parse(data as string) as BridgeResponseJson,
};
export type Ask = Omit<BridgeRequestJson, "ref" | "agent">;
export type State = "connecting" | "open" | "closed";
/** What opens a connection: the WebSocket of browsers, or anything that behaves like it. */
export type SocketMaker = new (url: string, protocols: string[]) => WebSocket;

const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 5_000;
const PING_MS = 10_000;
const SILENCE_MS_MAX = 25_000;
const OPEN = 1;
/** The bridge closes on more, and a request that is repeated on every new connection would go on so. */
const MESSAGE_BYTES_MAX = 512 * 1_024;

/** What the suite refused, with the code and the reason to test for. */
export class PodiumError extends Error {
  readonly code: string;
  readonly reason: string;
  readonly field: string;
  readonly retryAfterMs: number;
  /** The agent whose frame was refused. */
  readonly agentId: string;

  constructor(error: BridgeErrorJson) {
    super(error.message ?? "The request was refused.");
    this.name = "PodiumError";
    this.code = error.code ?? "UNKNOWN";
    this.reason = error.reason ?? "UNKNOWN";
    this.field = error.field ?? "";
    this.retryAfterMs = Number(error.retryAfterMs ?? 0);
    this.agentId = error.agentId ?? "";
  }
}

interface Asked {
  message: Ask;
  /** Until when it is repeated on new connections. */
  until: number;
  settle: (response: BridgeResponseJson) => void;
  fail: (error: Error) => void;
}

/** A watch as the wire keeps it: asked again after each reconnect, from where it stood. */
export interface Watched {
  ask: () => Ask;
  take: (response: BridgeResponseJson) => void;
  fail: (error: PodiumError) => void;
}

/** An agent as the wire keeps it. */
export interface Spoken {
  opened: () => void;
  closed: () => void;
  take: (frame: RouterFrameJson) => void;
  /** Told that some frame was refused; the error may name the agent. */
  refused: (error: PodiumError) => void;
}

export class Wire {
  state: State = "connecting";
  notice: NoticeJson | undefined;
  /** Connections that failed in a row. */
  failures = 0;
  onstate: (state: State) => void = () => {};

  #socket: WebSocket | undefined;
  #refs = 0;
  #asked = new Map<string, Asked>();
  #watched = new Map<string, Watched>();
  #spoken = new Map<string, Spoken>();
  #heardAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pinger: ReturnType<typeof setInterval>;

  #maker: SocketMaker;
  #spelling: Spelling;

  constructor(readonly url: string, readonly token = "", maker?: SocketMaker, spelling = JSON_TEXT) {
    this.#spelling = spelling;
    const found = maker ?? globalThis.WebSocket;
    if (!found) throw new TypeError("There is no WebSocket here: give one as the option WebSocket.");
    this.#maker = found;
    this.#open();
    this.#pinger = setInterval(() => this.#ping(), PING_MS);
  }

  /**
   * Answers one request; repeated if the connection breaks before the answer is here, unless that
   * is more than `repeatMs` later.
   */
  ask(message: Ask, repeatMs = Infinity): Promise<BridgeResponseJson> {
    return new Promise((settle, fail) => {
      if (this.state === "closed") return fail(new Error("This client is closed."));
      const ref = this.#ref();
      if (bytes(JSON.stringify({ ref, ...message })) > MESSAGE_BYTES_MAX) return fail(tooLarge());
      this.#asked.set(ref, { message, until: Date.now() + repeatMs, settle, fail });
      this.#send({ ref, ...message });
    });
  }

  /** Begins a watch; returns the function that ends it. */
  watch(watched: Watched): () => void {
    let ref = this.#ref();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const begin = () => {
      this.#watched.set(ref, entry);
      this.#send({ ref, ...watched.ask() });
    };
    const entry: Watched = {
      ...watched,
      fail: (error) => {
        this.#watched.delete(ref);
        if (error.code !== "UNAVAILABLE" && error.reason !== "WATCHER_TOO_SLOW") {
          return watched.fail(error);
        }
        // The service behind the bridge is away: ask until it is back, under a new ref.
        ref = this.#ref();
        timer = setTimeout(begin, Math.max(error.retryAfterMs, 500) * (0.5 + Math.random()));
      },
    };
    begin();
    return () => {
      clearTimeout(timer);
      if (this.#watched.delete(ref)) this.#send({ ref: this.#ref(), unwatch: { watchRef: ref } });
    };
  }

  /** Lets an agent speak; returns the function that ends it. */
  speak(agentId: string, spoken: Spoken): () => void {
    this.#spoken.set(agentId, spoken);
    if (this.state === "open") spoken.opened();
    return () => {
      // Another one may have taken the id over.
      if (this.#spoken.get(agentId) === spoken) this.#spoken.delete(agentId);
    };
  }

  /** Sends frames of agents; false when there is no connection now. */
  frames(frames: AgentFrameJson[]): boolean {
    return this.#send({ agent: { frames } });
  }

  close(): void {
    this.#setState("closed");
    clearTimeout(this.#timer);
    clearInterval(this.#pinger);
    this.#socket?.close(1000);
    for (const { fail } of this.#asked.values()) fail(new Error("This client is closed."));
    this.#asked.clear();
    this.#watched.clear();
  }

  #ref(): string {
    return `r${++this.#refs}`;
  }

  #send(message: BridgeRequestJson): boolean {
    if (this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(this.#spelling.write(message));
    return true;
  }

  #repeat(ref: string, { message, until, fail }: Asked): void {
    if (Date.now() <= until) {
      this.#send({ ref, ...message });
      return;
    }
    // Who slept that long cannot ask again: what would tell a repeat is forgotten by now.
    this.#asked.delete(ref);
    fail(unanswered());
  }

  #open(): void {
    const { subprotocol } = this.#spelling;
    const offered = this.token ? [subprotocol, `podium.bearer.${this.token}`] : [subprotocol];
    const socket = new this.#maker(this.url, offered);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      this.#heardAt = Date.now();
      this.#setState("open");
      for (const [ref, asked] of this.#asked) this.#repeat(ref, asked);
      for (const [ref, { ask }] of this.#watched) this.#send({ ref, ...ask() });
      for (const { opened } of this.#spoken.values()) opened();
    };
    socket.onmessage = (event) => {
      this.#heardAt = Date.now();
      this.failures = 0;
      this.#take(this.#spelling.read(event.data));
    };
    // An error ends a connection. Some only say that when it never opened, and no close after it.
    socket.onclose = socket.onerror = () => {
      if (socket === this.#socket) this.#lost();
    };
  }

  #lost(): void {
    this.#socket = undefined;
    for (const { closed } of this.#spoken.values()) closed();
    if (this.state === "closed") return;
    // Full jitter: a thousand tabs must not come back in the same moment.
    const ceiling = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(++this.failures, 10));
    const wait = BACKOFF_MS_MIN / 2 + Math.random() * ceiling;
    this.#timer = setTimeout(() => this.#open(), wait);
    this.state = "connecting";
    this.onstate(this.state);
  }

  #take(response: BridgeResponseJson): void {
    const ref = response.ref ?? "";
    if (response.agent) {
      for (const frame of response.agent.frames ?? []) this.#frame(frame);
      return;
    }
    if (response.notice) {
      this.notice = response.notice;
      return;
    }
    if (response.error && !ref) {
      for (const { refused } of this.#spoken.values()) refused(new PodiumError(response.error));
      return;
    }
    const watched = this.#watched.get(ref);
    if (watched) {
      if (response.error) watched.fail(new PodiumError(response.error));
      else watched.take(response);
      return;
    }
    const asked = this.#asked.get(ref);
    if (!asked) return;
    this.#asked.delete(ref);
    if (response.error) asked.fail(new PodiumError(response.error));
    else asked.settle(response);
  }

  #frame(frame: RouterFrameJson): void {
    if (frame.agentId) this.#spoken.get(frame.agentId)?.take(frame);
    else for (const { take } of this.#spoken.values()) take(frame);
  }

  #ping(): void {
    if (this.state !== "open") return;
    // A laptop that slept has a socket that looks open and is not.
    if (Date.now() - this.#heardAt > SILENCE_MS_MAX) {
      const socket = this.#socket;
      this.#lost();
      socket?.close();
    } else {
      this.#send({ ref: "ping", ping: {} });
    }
  }

  #setState(state: State): void {
    if (this.state === state) return;
    this.state = state;
    this.onstate(state);
  }
}

function bytes(text: string): number {
  // A character of a string takes at most three bytes: most texts need not be counted.
  return text.length * 3 > MESSAGE_BYTES_MAX ? new TextEncoder().encode(text).length : text.length;
}

function tooLarge(): PodiumError {
  return new PodiumError({
    code: "RESOURCE_EXHAUSTED",
    reason: "MESSAGE_TOO_LARGE",
    message: "A message has at most 512 KiB: send fewer tasks at once, or smaller payloads.",
  });
}

function unanswered(): PodiumError {
  return new PodiumError({
    code: "UNAVAILABLE",
    reason: "SUBMIT_UNANSWERED",
    message: "The connection was away too long to repeat the request: whether it was taken is not known.",
  });
}
