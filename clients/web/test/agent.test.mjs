import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, FinalFailure } from "../dist/podium.js";
import { Bridge, eventually } from "./bridge.mjs";

const LEASE = { taskId: "t-1", leaseEpoch: "9007199254740993" };
const READY = { seq: "1", ready: { resumeToken: "r-1", renewInterval: "0.050s", heartbeatInterval: "0.050s" } };

let bridge;
let podium;

beforeEach(() => {
  bridge = new Bridge();
  podium = connect({ url: "ws://bridge/ws", WebSocket: bridge.WebSocket });
});

afterEach(() => podium.close());

/** Starts an agent that has its session. */
async function ready(handle, more = {}) {
  const agent = podium.agent({ agentId: "a-1", capabilities: ["text.count"], handle, ...more });
  await eventually(() => bridge.frames("hello").length === 1);
  bridge.tell({ agentId: "a-1", ...READY });
  assert.equal(agent.state, "ready");
  return agent;
}

function assign(attempt = 1) {
  const spec = { type: "text.count", payload: { contentType: "text/plain", data: btoa("one two") } };
  bridge.tell({ agentId: "a-1", seq: "2", assign: { ...LEASE, attempt, spec } });
}

test("it says who it is and what it can do", async () => {
  const agent = podium.agent({
    agentId: "a-1", name: "A tab", maxConcurrency: 3, labels: { team: "x" },
    capabilities: ["text.count", { name: "text.sum", proficiency: 0.5 }], handle: () => 1,
  });
  const { hello } = await eventually(() => bridge.frames("hello")[0]);

  assert.equal(agent.state, "connecting");
  assert.deepEqual(hello.capabilities, [{ name: "text.count" }, { name: "text.sum", proficiency: 0.5 }]);
  assert.deepEqual([hello.name, hello.maxConcurrency, hello.labels], ["A tab", 3, { team: "x" }]);
  assert.ok(hello.instanceId);
});

test("an assignment is acked, worked on and answered with its own lease", async () => {
  const agent = await ready(({ payload, progress }) => {
    progress(0.5, "half");
    return { words: payload.split(" ").length };
  });

  assign();

  const { result } = await eventually(() => bridge.frames("result")[0]);
  assert.deepEqual(bridge.frames("ack")[0].ack.lease, LEASE);
  assert.deepEqual(bridge.frames("progress")[0].progress, { lease: LEASE, reportSeq: "1", fraction: 0.5, message: "half" });
  assert.deepEqual(result.lease, LEASE);
  assert.equal(atob(result.success.data), '{"words":2}');
  assert.equal(agent.completed, 1);
});

test("a result is repeated until it is acknowledged", async () => {
  await ready(() => "done");
  assign();

  await eventually(() => bridge.frames("result").length >= 3);
  bridge.tell({ agentId: "a-1", seq: "3", resultAck: { lease: LEASE, verdict: "VERDICT_ACCEPTED" } });
  const known = bridge.frames("result").length;
  const beats = bridge.frames("heartbeat").length;
  await eventually(() => bridge.frames("heartbeat").length > beats + 2);

  assert.equal(bridge.frames("result").length, known);
});

test("what is thrown fails the attempt, and a final failure the task", async () => {
  let attempt = 0;
  await ready(() => {
    attempt += 1;
    throw attempt === 1 ? new Error("later") : new FinalFailure("never", "NONSENSE");
  });
  assign();
  await eventually(() => bridge.frames("result")[0]);
  bridge.tell({ agentId: "a-1", resultAck: { lease: LEASE } });
  assign(2);

  const failures = await eventually(() => {
    const found = new Map(bridge.frames("result").map(({ result }) => [result.failure.message, result.failure]));
    return found.size === 2 && found;
  });

  assert.deepEqual(failures.get("later"), { reason: "HANDLER_FAILED", message: "later", retryable: true });
  assert.deepEqual(failures.get("never"), { reason: "NONSENSE", message: "never", retryable: false });
});

test("what has half a character in it is told all the same", async () => {
  await ready(({ progress }) => {
    progress(0.5, "half \ud83d");
    throw new Error("bad \ud83d name");
  });
  assign();

  const { result } = await eventually(() => bridge.frames("result")[0]);

  assert.equal(result.failure.message, "bad \ufffd name");
  assert.equal(bridge.frames("progress")[0].progress.message, "half \ufffd");
});

test("what has no text ends its attempt", async () => {
  await ready(() => {
    throw Object.create(null);
  });
  assign();

  const { result } = await eventually(() => bridge.frames("result")[0]);

  assert.equal(result.failure.message, "What the handler threw has no text.");
});

test("a message of progress is cut to what the wire takes", async () => {
  await ready(({ progress }) => progress(0.5, "x".repeat(3_000)));
  assign();

  const { progress } = await eventually(() => bridge.frames("progress")[0]);

  assert.equal(progress.message.length, 1_024);
});

test("a reason that the wire would refuse is refused where it is given", () => {
  assert.throws(() => new FinalFailure("never", "not like this"), RangeError);
});

test("a number that JSON cannot hold fails the attempt and does not become null", async () => {
  await ready(() => ({ none: null, score: Number.NaN }));
  assign();

  const { result } = await eventually(() => bridge.frames("result")[0]);

  assert.equal(result.failure.message, "JSON cannot hold NaN (score).");
});

for (const bytes of [new Uint8Array([1, 2]), new Uint8Array([1, 2]).buffer, new DataView(new Uint8Array([0, 1, 2]).buffer, 1)]) {
  test(`bytes in a ${bytes.constructor.name} are the result as they are`, async () => {
    await ready(() => bytes);
    assign();

    const { result } = await eventually(() => bridge.frames("result")[0]);

    assert.deepEqual(result.success, { contentType: "application/octet-stream", data: "AQI=" });
  });
}

for (const [lost, told] of [[() => 1, "Function"], [Symbol("s"), "Symbol"], [new Map([[1, 2]]), "Map"], [new Blob(["x"]), "Blob"]]) {
  test(`a ${told}, of which JSON would keep nothing, fails the attempt`, async () => {
    await ready(() => lost);
    assign();

    const { result } = await eventually(() => bridge.frames("result")[0]);

    assert.equal(result.failure.message, `JSON cannot hold [object ${told}].`);
  });
}

test("a result that nobody could take fails the task instead of the connection", async () => {
  await ready(() => "x".repeat(256 * 1024 + 3));
  assign();

  const { result } = await eventually(() => bridge.frames("result")[0]);

  assert.deepEqual([result.failure.reason, result.failure.retryable], ["RESULT_TOO_LARGE", false]);
});

test("a canceled task is aborted and answered as canceled", async () => {
  await ready(({ signal }) => new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason))));
  assign();
  await eventually(() => bridge.frames("ack")[0]);

  bridge.tell({ agentId: "a-1", cancel: { lease: LEASE, reason: "CANCELED" } });

  const { result } = await eventually(() => bridge.frames("result")[0]);
  assert.deepEqual(result.canceled, {});
});

test("a lost lease is aborted and answered with nothing", async () => {
  let aborted = "";
  await ready(({ signal }) => new Promise((resolve) => {
    signal.addEventListener("abort", () => {
      aborted = signal.reason.message;
      resolve("too late");
    });
  }));
  assign();
  await eventually(() => bridge.frames("renew")[0]);

  bridge.tell({ agentId: "a-1", renewAck: { lost: [LEASE] } });
  await eventually(() => aborted);
  const beats = bridge.frames("heartbeat").length;
  await eventually(() => bridge.frames("heartbeat").length > beats + 1);

  assert.equal(aborted, "LEASE_LOST");
  assert.equal(bridge.frames("result").length, 0);
});

test("after a lost connection it comes back with its leases, its token and its place", async () => {
  let finish;
  await ready(() => new Promise((resolve) => {
    finish = resolve;
  }));
  assign();
  await eventually(() => finish);

  bridge.drop();
  const { hello } = await eventually(() => bridge.frames("hello")[1]);
  finish("kept");
  bridge.tell({ agentId: "a-1", seq: "1", ready: { ...READY.ready, verdicts: [{ lease: LEASE, verdict: "VERDICT_KEEP" }] } });

  assert.deepEqual(hello.inFlight, [LEASE]);
  assert.equal(hello.resumeToken, "r-1");
  assert.equal(hello.lastSeq, "2");
  assert.equal(hello.instanceId, bridge.frames("hello")[0].hello.instanceId);
  const { result } = await eventually(() => bridge.frames("result").at(-1));
  assert.equal(atob(result.success.data), "kept");
});

test("leases that are not kept after a reconnect are given up", async () => {
  let aborted = false;
  await ready(({ signal }) => new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(aborted = true));
  }));
  assign();
  await eventually(() => bridge.frames("ack")[0]);

  bridge.drop();
  await eventually(() => bridge.frames("hello")[1]);
  bridge.tell({ agentId: "a-1", ready: { ...READY.ready, verdicts: [{ lease: LEASE, verdict: "VERDICT_LOST" }] } });

  await eventually(() => aborted);
  assert.equal(bridge.frames("result").length, 0);
});

test("when the bridge has lost Routing it says hello again on the same connection", async () => {
  const agent = await ready(() => 1);

  bridge.tell({ agentId: "a-1", refusal: { reason: "ROUTER_LOST", closing: true } });
  assert.equal(agent.state, "connecting");

  await eventually(() => bridge.frames("hello")[1]);
  assert.equal(bridge.sockets.length, 1);
});

test("a probe is answered, and after superseded it is still", async () => {
  const agent = await ready(() => 1);
  bridge.tell({ agentId: "a-1", probe: { nonce: "7" } });
  assert.equal(bridge.frames("probeReply")[0].probeReply.nonce, "7");

  bridge.tell({ agentId: "a-1", superseded: { instanceId: "other" } });
  bridge.drop();
  await eventually(() => bridge.sockets.length === 2);

  assert.equal(agent.state, "superseded");
  assert.equal(bridge.frames("hello").length, 1);
});

test("it drains, and stopping says goodbye", async () => {
  const agent = await ready(() => 1);

  agent.drain("enough");
  agent.stop("done");

  assert.equal(bridge.frames("drain")[0].drain.reason, "enough");
  assert.equal(bridge.frames("goodbye")[0].goodbye.reason, "done");
  assert.equal(agent.state, "stopped");
});

test("one that drains says so in its hello, and declines what comes all the same", async () => {
  const agent = await ready(() => 1);
  agent.drain("enough");
  bridge.drop();
  await eventually(() => bridge.frames("hello").length === 2, 5_000);

  bridge.tell({ agentId: "a-1", assign: { taskId: "t-1", leaseEpoch: "1", spec: { type: "a" } } });
  await eventually(() => bridge.frames("nack").length === 1);

  assert.deepEqual(bridge.frames("hello").map(({ hello }) => hello.draining ?? false), [false, true]);
  assert.equal(bridge.frames("nack")[0].nack.reason, "REASON_DRAINING");
  assert.equal(bridge.frames("ack").length, 0);
  agent.stop();
});

test("a hello that finds no router is said again", async () => {
  const agent = await ready(() => 1);
  bridge.tell({ agentId: "a-1", refusal: { reason: "ROUTER_LOST", closing: true } });
  await eventually(() => bridge.frames("hello").length === 2, 5_000);

  bridge.say({ error: { code: "UNAVAILABLE", reason: "ROUTING_UNREACHABLE", retryAfterMs: "300" } });

  await eventually(() => bridge.frames("hello").length === 3, 5_000);
  agent.stop();
});

test("leaving waits for what is in work", async () => {
  let finish;
  const agent = await ready(() => new Promise((resolve) => { finish = resolve; }));
  bridge.tell({ agentId: "a-1", assign: { taskId: "t-1", leaseEpoch: "1", spec: { type: "a" } } });
  await eventually(() => bridge.frames("ack").length === 1);
  const left = agent.leave("enough");
  assert.equal(bridge.frames("drain").length, 1);
  assert.equal(bridge.frames("goodbye").length, 0);

  finish("done");
  await eventually(() => bridge.frames("result").length === 1);
  bridge.tell({ agentId: "a-1", resultAck: { lease: { taskId: "t-1", leaseEpoch: "1" } } });
  await left;

  assert.equal(bridge.frames("goodbye")[0].goodbye.reason, "enough");
  assert.equal(agent.state, "stopped");
});

test("told to leave before it is ready it says so only then", async () => {
  const agent = podium.agent({ agentId: "a-1", capabilities: ["a"], handle: () => 1 });
  await eventually(() => bridge.frames("hello").length === 1);
  await agent.leave("enough");
  assert.equal(agent.state, "stopped");
  assert.equal(bridge.frames("drain").length + bridge.frames("goodbye").length, 0);

  bridge.tell({ agentId: "a-1", ready: { resumeToken: "t", renewInterval: "10s" } });

  await eventually(() => bridge.frames("goodbye").length === 1);
  assert.equal(bridge.frames("goodbye")[0].goodbye.reason, "enough");
});

const NO = { reason: "CAPABILITY_NOT_GRANTED", code: "PERMISSION_DENIED", message: "not granted" };

for (const [from, say] of [
  ["the router", () => bridge.tell({ agentId: "a-1", refusal: NO })],
  ["the bridge", () => bridge.say({ error: { ...NO, agentId: "a-1" } })],
]) {
  test(`an agent whose hello is refused for good by ${from} says why, and stops`, async () => {
    const states = [];
    const onstate = (state, why) => states.push([state, why?.reason, why?.message]);
    const agent = podium.agent({ agentId: "a-1", capabilities: ["root"], handle: () => 1, onstate });
    const other = podium.agent({ agentId: "a-2", capabilities: ["text.count"], handle: () => 1 });
    await eventually(() => bridge.frames("hello").length === 2);

    say();

    assert.deepEqual(states, [["refused", "CAPABILITY_NOT_GRANTED", "not granted"]]);
    assert.equal(agent.refusal.code, "PERMISSION_DENIED");
    assert.equal(other.state, "connecting");
    bridge.drop(bridge.socket);
    await eventually(() => bridge.frames("hello").length === 3);
    assert.deepEqual(bridge.frames("hello").map(({ agentId }) => agentId).slice(2), ["a-2"]);
    agent.stop();
    assert.equal(agent.state, "refused");
  });
}

test("an agent that is asked to stay away says hello after that time", async () => {
  await ready(() => 1);
  const asked = performance.now();
  const refusal = { reason: "HELLO_RATE", code: "RESOURCE_EXHAUSTED", closing: true, retryAfter: "0.700s" };
  bridge.tell({ agentId: "a-1", refusal });

  await eventually(() => bridge.frames("hello").length === 2);
  assert.ok(performance.now() - asked >= 700);
});

test("a refused frame of an agent at work is not the end of it", async () => {
  const agent = await ready(() => 1);
  bridge.tell({ agentId: "a-1", refusal: { reason: "INVALID_FIELD", code: "INVALID_ARGUMENT", message: "no" } });

  assert.equal(agent.state, "ready");
});

test("what is recalled in the message that assigns it never begins", async () => {
  const begun = [];
  await ready(({ attempt }) => begun.push(attempt));
  const spec = { type: "text.count" };
  bridge.tell(
    { agentId: "a-1", seq: "2", assign: { ...LEASE, attempt: 1, spec } },
    { agentId: "a-1", seq: "3", recall: { leases: [LEASE] } },
    { agentId: "a-1", seq: "4", assign: { taskId: "t-2", leaseEpoch: "2", attempt: 2, spec } },
  );

  const { result } = await eventually(() => bridge.frames("result")[0]);
  assert.equal(result.lease.taskId, "t-2");
  assert.deepEqual(begun, [2]);
});

test("after a standstill a task begins once the router says that it still holds it", async (t) => {
  const begun = [];
  await ready(({ taskId }) => begun.push(taskId), { maxConcurrency: 3 });
  const now = Date.now() + 10_000;
  t.mock.method(Date, "now", () => now);
  const spec = { type: "text.count" };
  const leases = ["held", "recalled", "canceled"].map((taskId) => ({ taskId, leaseEpoch: "7" }));
  for (const lease of leases) bridge.tell({ agentId: "a-1", assign: { ...lease, attempt: 1, spec } });

  await eventually(() => leases.every(({ taskId }) =>
    bridge.frames("renew").some(({ renew }) => renew.leases.some((each) => each.taskId === taskId))));
  assert.equal(bridge.frames("ack").length, 3);
  assert.deepEqual(begun, []);
  bridge.tell({ agentId: "a-1", renewAck: { held: [leases[0]], lost: [leases[1]] } });
  bridge.tell({ agentId: "a-1", cancel: { lease: leases[2], reason: "CANCELED" } });

  const results = () => bridge.frames("result").map(({ result }) => result);
  await eventually(() => results().some((each) => each.success) && results().some((each) => each.canceled));
  assert.deepEqual(begun, ["held"]);
  assert.ok(results().every(({ lease }) => lease.taskId !== "recalled"));
});

test("an assignment that comes again gets the answer it had", async () => {
  await ready(() => new Promise(() => {}));
  assign();
  assign();

  await eventually(() => bridge.frames("ack").length === 2);
});
