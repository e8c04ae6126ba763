// Who can work, how it goes, and what an operator can do about it.
import { computed, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import { milliseconds, number } from "../podium";
import { ago, count, duration, moment, percent, word } from "./format";
import { Act, Badge, Bar, Empty, entered, Panel, Spark, toast } from "./parts";
import { to } from "./route";
import { Chances } from "./chances";
import { agents, agentsKnown, podium, TRAIL_MAX, trailed, trails } from "./store";
import { TaskTable } from "./tasks";
import { Work } from "./work";

const search = signal("");
const status = signal("");
const STEP = 100;
const shown = signal(STEP);
// Made once: comparing names by a locale is slow, and there may be a thousand of them each second.
const order = new Intl.Collator("en", { numeric: true });

const STATUSES = ["IDLE", "BUSY", "DRAINING", "QUARANTINED", "SUSPECT", "OFFLINE"];

const found = computed(() => {
  const text = search.value.trim().toLowerCase();
  return [...agents.value.values()]
    .filter((agent) => !status.value || agent.status === status.value)
    .filter((agent) =>
      !text || agent.agentId!.includes(text) || (agent.name ?? "").toLowerCase().includes(text) ||
      (agent.capabilities ?? []).some(({ name }) => name!.includes(text)))
    .sort((a, b) => order.compare(a.agentId!, b.agentId!));
});

/** Success and time over all types, weighted by how often each was done. */
function record(agent: AgentJson): { done: number; failed: number; mean: number } {
  let done = 0;
  let failed = 0;
  let spent = 0;
  for (const each of agent.statistics ?? []) {
    const completed = Number(each.completedCount ?? 0);
    done += completed;
    failed += Number(each.failedCount ?? 0);
    spent += completed * milliseconds(each.meanRunDuration);
  }
  return { done, failed, mean: done > 0 ? spent / done : Number.NaN };
}

export function Agents() {
  const all = found.value;
  return (
    <div class="page">
      <div class="title">
        <h1>Agents</h1>
        <span class="hint">{count(agents.value.size)} known</span>
      </div>
      <div class="filters">
        <input
          type="search" placeholder="Name, id or capability" aria-label="Search agents"
          value={search.value} onInput={(event) => { search.value = entered(event); }}
        />
        <div class="segments" role="group" aria-label="Status">
          <button type="button" aria-pressed={!status.value} onClick={() => { status.value = ""; }}>all</button>
          {STATUSES.map((each) => (
            <button
              type="button" key={each} aria-pressed={status.value === `STATUS_${each}`}
              onClick={() => { status.value = `STATUS_${each}`; }}
            >
              {each.toLowerCase()}
            </button>
          ))}
        </div>
      </div>
      <Panel>
        {all.length > 0
          ? <AgentTable agents={all.slice(0, shown.value)} />
          : agents.value.size > 0
          ? <Empty title="No agent matches"><p>Change the search or the status above.</p></Empty>
          : <NoAgents />}
        {all.length > shown.value && (
          <p class="hint more">
            {count(all.length - shown.value)} more: search to narrow them down, or{" "}
            <button type="button" class="button" onClick={() => { shown.value += STEP; }}>Show {STEP} more</button>
          </p>
        )}
      </Panel>
    </div>
  );
}

function NoAgents() {
  if (!agentsKnown.value) return <Empty title="Waiting for the registry"><p>Agents appear here as soon as it answers.</p></Empty>;
  return (
    <Empty title="No agent has connected yet">
      <p>An agent dials in, says what it can do, and is given work. Start one:</p>
      <pre>podium agent run my_module:agent{"\n"}podium sim fleet --agents 20 --rate 50</pre>
      <p>Or let <a href="/examples/agent.html" target="_blank" rel="noopener">a tab of this browser</a> be one.</p>
    </Empty>
  );
}

/** Rows by what they show: a row whose agent has not changed is not even looked at again. */
const rows = new WeakMap<AgentJson, VNode>();

function row(agent: AgentJson): VNode {
  let made = rows.get(agent);
  if (!made) rows.set(agent, made = <AgentRow key={agent.agentId} agent={agent} />);
  return made;
}

function AgentTable({ agents: listed }: { agents: AgentJson[] }) {
  return (
    <div class="scroll-x">
      <table class="table rows">
        <thead>
          <tr>
            <th>Agent</th><th>Status</th><th>Load</th><th class="wide">Capabilities</th>
            <th class="wide">Breaker</th><th class="wide">Completed, 2 min</th><th class="number">Success</th><th class="number wide">Mean run</th>
            <th class="number wide">Heard</th><th class="wide"><span class="sr">Actions</span></th>
          </tr>
        </thead>
        <tbody>{listed.map(row)}</tbody>
      </table>
    </div>
  );
}

function AgentRow({ agent }: { agent: AgentJson }) {
  const { done, failed, mean } = record(agent);
  const slots = agent.maxConcurrency ?? 1;
  const busy = agent.inFlightCount ?? 0;
  return (
    <tr>
      <td class="clip">
        <a href={to("agents", agent.agentId)}>{agent.name || agent.agentId}</a>
        <div class="under">{under(agent)}</div>
      </td>
      <td>
        <Badge of={agent.status} />
        {agent.breaker && agent.breaker !== "BREAKER_CLOSED" && <div class="narrow"><Badge of={agent.breaker} /></div>}
      </td>
      <td class="load"><Bar share={busy / slots} label={`${busy} of ${slots}`} /><span class="under">{busy}/{slots}</span></td>
      <td class="wide"><Capabilities agent={agent} /></td>
      <td class="wide"><Badge of={agent.breaker} /></td>
      <td class="wide"><Trailing id={agent.agentId!} /></td>
      <td class={`number ${failed > done / 10 ? "bad-text" : ""}`}>{percent(done + failed > 0 ? done / (done + failed) : Number.NaN)}</td>
      <td class="number wide">{duration(mean)}</td>
      <td class="number mute wide"><Ago at={agent.heartbeatTime} /></td>
      <td class="actions wide"><AgentActions agent={agent} /></td>
    </tr>
  );
}

/** Grows by itself, and nothing around it has to. */
function Ago({ at }: { at: string | undefined }) {
  return <>{ago(at)}</>;
}

/** What the name does not say. */
function under(agent: AgentJson): string {
  const id = agent.name && agent.name !== agent.agentId ? [agent.agentId] : [];
  return [...id, ...(agent.transport === "websocket" ? ["browser"] : [])].join(" · ");
}

/** What it has completed in each of the last two-second steps. */
function Trailing({ id }: { id: string }) {
  // Drawn anew with each step, and with nothing in between.
  void trailed.value;
  const done = trails.get(id)?.done ?? [];
  const steps = done.slice(1).map((each, index) => Math.max(0, each - done[index]!));
  const sum = steps.reduce((total, each) => total + each, 0);
  return <Spark values={steps} length={TRAIL_MAX} label={`${sum} completed in ${steps.length * 2} seconds`} />;
}

function Capabilities({ agent, all = false }: { agent: AgentJson; all?: boolean }) {
  const named = agent.capabilities ?? [];
  const shown = all ? named : named.slice(0, 3);
  return (
    <span class="chips">
      {shown.map(({ name, proficiency, version }) => (
        <span class="chip" key={name} title={`proficiency ${proficiency ?? 1}${version ? `, version ${version}` : ""}`}>
          {name}{all && proficiency !== undefined && <i> {percent(number(proficiency))}</i>}
        </span>
      ))}
      {named.length > shown.length && <span class="mute">+{named.length - shown.length}</span>}
    </span>
  );
}

function AgentActions({ agent }: { agent: AgentJson }) {
  const id = agent.agentId!;
  const reason = "from the dashboard";
  const quarantined = agent.status === "STATUS_QUARANTINED";
  const gone = agent.status === "STATUS_OFFLINE";
  return (
    <>
      {!quarantined && agent.breaker !== "BREAKER_OPEN" ? (
        <Act
          tone="quiet" confirm="Quarantine?" disabled={gone} title="Give it no work until it is released"
          run={async () => {
            await podium.ask({ quarantineAgent: { agentId: id, reason } });
            toast(`${id} is quarantined.`);
          }}
        >
          Quarantine
        </Act>
      ) : (
        <Act
          tone="quiet" title="Give it work again and close its breaker"
          run={async () => {
            await podium.ask({ releaseAgent: { agentId: id } });
            toast(`${id} is released.`, "good");
          }}
        >
          Release
        </Act>
      )}
      <Act
        tone="quiet" confirm="Drain for good?" disabled={gone || agent.status === "STATUS_DRAINING"}
        title="Let it finish what it has and give it nothing new; never undone for its session"
        run={async () => {
          await podium.ask({ drainAgents: { agentId: id, reason } });
          toast(`${id} drains.`);
        }}
      >
        Drain
      </Act>
    </>
  );
}

export function AgentPage({ id }: { id: string }) {
  const agent = agents.value.get(id);
  const [tasks, setTasks] = useState<TaskJson[]>();
  useEffect(() => {
    let live = true;
    const load = async () => {
      const { tasks: listed } = await podium.list({ filter: { agentId: id }, pageSize: 25 });
      if (live) setTasks(listed);
    };
    const poll = () => void load().catch(() => {});
    poll();
    const timer = setInterval(poll, 2_000);
    return () => {
      live = false;
      clearInterval(timer);
    };
  }, [id]);
  if (!agent) {
    return (
      <div class="page">
        <div class="title"><h1>{id}</h1></div>
        <Panel><Empty title="This agent is not known"><p>It has left, or it has not said hello yet. <a href={to("agents")}>All agents</a></p></Empty></Panel>
      </div>
    );
  }
  return (
    <div class="page">
      <div class="title">
        <h1>{agent.name || agent.agentId}</h1>
        <Badge of={agent.status} />
        <div class="action"><AgentActions agent={agent} /></div>
      </div>
      <div class="columns">
        <Panel title="About"><Facts agent={agent} /></Panel>
        <Panel title="By task type" hint="recent outcomes weigh more"><Statistics agent={agent} /></Panel>
      </div>
      <Work id={id} />
      <Panel title="Chosen or not" hint="the newest tasks that it is able to do"><Chances agent={agent} /></Panel>
      <Panel title="Recent tasks" hint="what it had last">
        {tasks && tasks.length === 0
          ? <Empty title="No task yet"><p>It takes what it is able to do as soon as something waits.</p></Empty>
          : <TaskTable tasks={tasks ?? []} />}
      </Panel>
    </div>
  );
}

function Facts({ agent }: { agent: AgentJson }) {
  const labels = Object.entries(agent.labels ?? {});
  return (
    <dl class="facts">
      <dt>Id</dt><dd class="id">{agent.agentId}</dd>
      <dt>Load</dt><dd>{agent.inFlightCount ?? 0} of {agent.maxConcurrency ?? 1}</dd>
      <dt>Capabilities</dt><dd><Capabilities agent={agent} all /></dd>
      <dt>Breaker</dt><dd><Badge of={agent.breaker} /> {percent(number(agent.failureRate))} of recent attempts failed</dd>
      {agent.statusReason && <><dt>{word(agent.status)}</dt><dd>{agent.statusReason}</dd></>}
      <dt>Connected</dt><dd>{agent.transport || "–"}, router <span class="id">{agent.routerId || "–"}</span></dd>
      <dt>First seen</dt><dd>{moment(agent.createTime, true)}</dd>
      <dt>Last heard</dt><dd>{ago(agent.heartbeatTime)}</dd>
      {agent.buildId && <><dt>Build</dt><dd>{agent.buildId}</dd></>}
      {labels.length > 0 && <><dt>Labels</dt><dd class="chips">{labels.map(([key, text]) => <span class="chip" key={key}>{key}={text}</span>)}</dd></>}
    </dl>
  );
}

function Statistics({ agent }: { agent: AgentJson }) {
  const rows = [...(agent.statistics ?? [])].sort((a, b) => Number(b.completedCount ?? 0) - Number(a.completedCount ?? 0));
  if (rows.length === 0) return <Empty title="Nothing ended yet"><p>Success and times appear here, for each type of task it has done.</p></Empty>;
  return (
    <div class="scroll-x">
      <table class="table">
        <thead><tr><th>Type</th><th class="number">Done</th><th class="number">Failed</th><th>Success</th><th class="number">Mean run</th></tr></thead>
        <tbody>
          {rows.map((each) => (
            <tr key={each.taskType}>
              <td class="clip">{each.taskType}</td>
              <td class="number">{count(Number(each.completedCount ?? 0))}</td>
              <td class="number">{count(Number(each.failedCount ?? 0))}</td>
              <td class="load">
                <Bar share={number(each.successRate)} tone={number(each.successRate) < 0.5 ? "bad" : "good"} label={percent(number(each.successRate))} />
                <span class="under">{percent(number(each.successRate))}</span>
              </td>
              <td class="number">{Number(each.completedCount ?? 0) > 0 ? duration(milliseconds(each.meanRunDuration)) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
