// A bridge of our own making inside the test: it remembers what it is told and says what it is told to.

/** Waits until `look` returns something. */
export async function eventually(look, within = 5_000) {
  const until = Date.now() + within;
  for (;;) {
    const found = look();
    if (found) return found;
    if (Date.now() > until) throw new Error(`not within ${within} ms: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export class Bridge {
  /** Everything said by the client, over all its connections. */
  heard = [];
  /** Connections so far, the last one being the open one. */
  sockets = [];
  /** Answers a request: by its field, what comes back. */
  answers = {};
  /** Whether new connections fail. */
  away = false;

  /** What to give to `connect` as WebSocket. */
  get WebSocket() {
    const bridge = this;
    return class {
      readyState = 0;

      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        setTimeout(() => bridge.#opened(this));
      }

      send(text) {
        bridge.#take(this, JSON.parse(text));
      }

      close() {
        bridge.drop(this);
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Requests of one kind that were heard. */
  asked(arm) {
    return this.heard.filter((message) => arm in message);
  }

  /** Frames of agents, of one kind. */
  frames(arm) {
    return this.heard.flatMap(({ agent }) => agent?.frames ?? []).filter((frame) => arm in frame);
  }

  say(message, socket = this.socket) {
    if (socket.readyState === 1) socket.onmessage?.({ data: JSON.stringify(message) });
  }

  /** Says frames to an agent. */
  tell(...frames) {
    this.say({ agent: { frames } });
  }

  /** Loses a connection. */
  drop(socket = this.socket) {
    if (socket.readyState === 3) return;
    socket.readyState = 3;
    setTimeout(() => socket.onclose?.({}));
  }

  #opened(socket) {
    if (this.away) {
      // As Node before 22 does it: no close follows.
      socket.readyState = 3;
      return socket.onerror?.({});
    }
    this.sockets.push(socket);
    socket.readyState = 1;
    socket.onopen?.({});
    this.say({ notice: { kind: "WELCOME" } }, socket);
  }

  #take(socket, message) {
    this.heard.push(message);
    for (const [arm, answer] of Object.entries(this.answers)) {
      if (!(arm in message)) continue;
      const said = answer(message[arm], message);
      if (said) setTimeout(() => this.say({ ref: message.ref, ...said }, socket));
    }
  }
}
