import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, PodiumError, TaskFailed } from "../dist/podium.js";
import { Bridge, eventually } from "./bridge.mjs";

let bridge;
let podium;

beforeEach(() => {
  bridge = new Bridge();
  podium = connect({ url: "ws://bridge/ws", token: "abc", WebSocket: bridge.WebSocket });
});

afterEach(() => podium.close());

const event = (seq) => ({ seq: String(seq), type: "TYPE_PROGRESS", taskId: "t-1" });
const batch = (ref, first, last) => ({
  ref,
  events: {
    events: Array.from({ length: last - first + 1 }, (_, index) => event(first + index)),
    names: Array.from({ length: last - first + 1 }, () => "task:progress"),
    cursor: String(last),
  },
});

/** Takes `count` events of a watch and returns their numbers. */
async function take(events, count) {
  const found = [];
  while (found.length < count) found.push(Number((await events.next()).value.event.seq));
  return found;
}

test("the token is offered as a subprotocol and is no part of the address", async () => {
  await eventually(() => bridge.socket);

  assert.deepEqual(bridge.socket.protocols, ["podium.v1.json", "podium.bearer.abc"]);
  assert.equal(bridge.socket.url, "ws://bridge/ws");
});

test("outside of a page an address must be given", () => {
  assert.throws(() => connect({ WebSocket: bridge.WebSocket }), /needs a url/);
});

test("a submit that was not answered is repeated on the next connection, with the same request id", async () => {
  let lost = false;
  bridge.answers.submit = () => {
    if (lost) return { submitted: { taskIds: ["t-1"], cursor: "7" } };
    lost = true;
    bridge.drop();
    return undefined;
  };

  const task = await podium.submit({ type: "text.count", payload: { text: "one" } });

  const [first, second] = bridge.asked("submit").map(({ submit }) => submit.tasks[0]);
  assert.equal(task.taskId, "t-1");
  assert.equal(task.cursor, "7");
  assert.match(first.requestId, /^podium-retry:/);
  assert.deepEqual(first, second);
  assert.equal(atob(first.payload.data), '{"text":"one"}');
});

test("a submit that was unanswered for minutes is not repeated, one with its own id is", async (context) => {
  await eventually(() => podium.state === "open");
  const tasks = [{ type: "text.count" }, { type: "text.count", requestId: "order-7" }];
  const [lost, kept] = tasks.map((task) => podium.submit(task));
  await eventually(() => bridge.asked("submit").length === 2);
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 6 * 60_000 });
  bridge.answers.submit = () => ({ submitted: { taskIds: ["t-1"], cursor: "7" } });
  bridge.drop();

  await assert.rejects(lost, (error) => error.code === "UNAVAILABLE" && error.reason === "SUBMIT_UNANSWERED");
  assert.equal((await kept).taskId, "t-1");
  assert.equal(bridge.asked("submit").length, 3);
});

test("what is refused is thrown with its code, reason and field", async () => {
  bridge.answers.list = () => ({ error: { code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", message: "no", field: "list.pageSize" } });

  await assert.rejects(podium.list({ pageSize: -1 }), (error) => {
    assert.ok(error instanceof PodiumError);
    assert.deepEqual([error.code, error.reason, error.field], ["INVALID_ARGUMENT", "INVALID_FIELD", "list.pageSize"]);
    return true;
  });
});

test("a message that the bridge would close on is refused here, and the others go on", async () => {
  bridge.answers.submit = () => ({ submitted: { taskIds: ["t-1"], cursor: "7" } });
  const large = Array.from({ length: 3 }, () => ({ type: "text.count", payload: "x".repeat(200_000) }));

  await assert.rejects(podium.submitAll(large), (error) => {
    assert.deepEqual([error.code, error.reason], ["RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"]);
    return true;
  });

  assert.equal((await podium.submit({ type: "text.count", payload: "x" })).taskId, "t-1");
  assert.equal(bridge.asked("submit").length, 1);
});

test("a result is waited for, decoded, and its absence thrown", async () => {
  const states = ["STATE_RUNNING", "STATE_COMPLETED"];
  bridge.answers.submit = () => ({ submitted: { taskIds: ["t-1"], cursor: "7" } });
  bridge.answers.get = () => ({
    task: { task: { state: states.shift() ?? "STATE_FAILED", result: { contentType: "application/json", data: btoa('{"words":3}') }, failure: { message: "it broke" } } },
  });
  const task = await podium.submit({ type: "text.count" });

  assert.deepEqual(await task.result(), { words: 3 });
  await assert.rejects(task.result(), (error) => error instanceof TaskFailed && error.message === "it broke");
});

test("over lost connections a watch brings each event once and in order", async () => {
  // The log has 40 events; the bridge loses the connection after every seven it has told.
  bridge.answers.watchEvents = ({ cursor }, { ref }) => {
    const first = Number(cursor || 0) + 1;
    const last = Math.min(first + 6, 40);
    if (first <= 40) {
      setTimeout(() => {
        bridge.say(batch(ref, first, last));
        bridge.drop();
      });
    }
    return undefined;
  };

  const found = await take(podium.watchEvents(), 40);

  assert.deepEqual(found, Array.from({ length: 40 }, (_, index) => index + 1));
  assert.ok(bridge.sockets.length >= 6);
});

test("events that the bridge left out for our slowness are fetched from the log", async () => {
  const events = podium.watchEvents();
  const taken = take(events, 5);
  const { ref } = await eventually(() => bridge.asked("watchEvents")[0]);
  bridge.say(batch(ref, 1, 2));

  bridge.say({ ref, events: { ...batch(ref, 5, 5).events, skippedCount: "2" } });
  const again = await eventually(() => bridge.asked("watchEvents")[1]);
  bridge.say(batch(again.ref, 3, 5));

  assert.deepEqual(await taken, [1, 2, 3, 4, 5]);
  assert.equal(again.watchEvents.cursor, "2");
  assert.deepEqual(bridge.asked("unwatch").map(({ unwatch }) => unwatch.watchRef), [ref]);
});

test("who iterates slowly makes the watch rest, and misses nothing", async () => {
  const events = podium.watchEvents();
  const taken = take(events, 1);
  const { ref } = await eventually(() => bridge.asked("watchEvents")[0]);
  for (let seq = 1; seq <= 65; seq += 1) bridge.say(batch(ref, seq, seq));
  assert.deepEqual(await taken, [1]);
  const told = (await eventually(() => bridge.asked("unwatch")[0])).unwatch.watchRef;

  const rest = take(events, 65);
  const again = await eventually(() => bridge.asked("watchEvents")[1]);
  const from = Number(again.watchEvents.cursor);
  bridge.say(batch(again.ref, from + 1, 66));

  assert.equal(told, ref);
  assert.deepEqual(await rest, Array.from({ length: 65 }, (_, index) => index + 2));
});

test("a watch whose service is away is asked again, and one that is wrong throws", async () => {
  const events = podium.watchEvents();
  const taken = take(events, 1);
  const { ref } = await eventually(() => bridge.asked("watchEvents")[0]);
  bridge.say({ ref, error: { code: "UNAVAILABLE", reason: "PEER_UNAVAILABLE", message: "away" } });
  const again = await eventually(() => bridge.asked("watchEvents")[1]);
  bridge.say(batch(again.ref, 1, 1));
  assert.deepEqual(await taken, [1]);

  const next = take(events, 1);
  bridge.say({ ref: again.ref, error: { code: "OUT_OF_RANGE", reason: "CURSOR_COMPACTED", message: "too old" } });

  await assert.rejects(next, (error) => error.reason === "CURSOR_COMPACTED");
});

test("leaving a loop over events ends the watch", async () => {
  const loop = (async () => {
    for await (const { event: { seq } } of podium.watchEvents()) if (seq === "2") return;
  })();
  const { ref } = await eventually(() => bridge.asked("watchEvents")[0]);
  bridge.say(batch(ref, 1, 3));
  await loop;

  assert.equal(bridge.asked("unwatch")[0].unwatch.watchRef, ref);
});

test("while the bridge is away connections are tried again and again, ever less often", async () => {
  await eventually(() => podium.state === "open");
  bridge.away = true;
  bridge.drop();
  await eventually(() => podium.wire.failures >= 3);
  assert.equal(podium.state, "connecting");

  bridge.away = false;

  await eventually(() => podium.state === "open");
});

test("what was asked of a closed client is refused", async () => {
  const asked = podium.list();
  podium.close();

  await assert.rejects(asked, /closed/);
  await assert.rejects(podium.list(), /closed/);
  assert.equal(podium.state, "closed");
});

test("what a filter means is requeued to the end, and refusals are added up by reason", async () => {
  const refused = (reason, count) => ({ reason, count, message: `because of ${reason}` });
  const answers = {
    "": { taskIds: ["t-1", "t-2"], nextPageToken: "a", refusals: [refused("BACKLOG_FULL", "2")] },
    a: { nextPageToken: "b", refusals: [refused("DEPENDENCY_FAILED", "1")] },
    b: { taskIds: ["t-3"], refusals: [refused("BACKLOG_FULL", "5")] },
  };
  bridge.answers.requeue = (requeue) => ({ requeued: answers[requeue.pageToken ?? ""] });
  const told = [];

  const done = await podium.requeue({ filter: { type: "text.fail" } }, (many) => told.push(many));

  assert.deepEqual(done.taskIds, ["t-1", "t-2", "t-3"]);
  assert.deepEqual(done.refusals.map(({ reason, count }) => [reason, count]), [["BACKLOG_FULL", "7"], ["DEPENDENCY_FAILED", "1"]]);
  assert.deepEqual(told, [2, 2, 3]);
  assert.deepEqual(bridge.asked("requeue").map(({ requeue }) => requeue.filter.type), ["text.fail", "text.fail", "text.fail"]);
});

test("what a filter means is canceled to the end, with what descends from it", async () => {
  bridge.answers.cancel = (cancel) => ({
    canceled: cancel.pageToken ? { taskIds: ["t-2"], descendantCount: "3" } : { taskIds: ["t-1"], nextPageToken: "a" },
  });

  const done = await podium.cancel({ filter: { type: "text.long" }, reason: "enough" });

  assert.deepEqual(done, { taskIds: ["t-1", "t-2"], descendants: 3 });
  assert.equal(bridge.asked("cancel")[1].cancel.reason, "enough");
});
