// Who can work, how it goes, and what an operator can do about it.
import { computed, signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect } from "preact/hooks";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import { milliseconds, number, time } from "../podium";
import { FleetMap } from "./fleet";
import { ago, count, duration, percent } from "./format";
import { Act, Badge, Bar, Empty, entered, Panel, Spark, toast } from "./parts";
import { route, to, turn } from "./route";
import { agentIds, agents, agentsKnown, podium } from "./store";
import { trail, TRAIL_MAX } from "./trails";

const STEP = 100;
const shown = signal(STEP);

const STATUSES = ["IDLE", "BUSY", "DRAINING", "QUARANTINED", "SUSPECT", "OFFLINE"];

/** What the address asks for: a search, a status or an open breaker, a column to sort by. */
const asked = computed(() => {
  const { page, query } = route.value;
  const of = (name: string) => (page === "agents" ? query.get(name) ?? "" : "");
  return { search: of("search"), status: of("status"), sort: of("sort") };
});

function ask(part: Record<string, string>): void {
  turn(to("agents", "", { ...asked.value, ...part }));
}

interface Column {
  name: string;
  text: string;
  class?: string;
  /** What it sorts by, the first being the one worth looking at first. */
  by?: (agent: AgentJson) => number;
}

const COLUMNS: Column[] = [
  { name: "", text: "Agent", class: "w-name" },
  { name: "status", text: "Status", class: "w120", by: (agent) => -STATUSES.indexOf((agent.status ?? "").slice(7)) },
  { name: "load", text: "Load", class: "w110 w-load", by: (agent) => -(agent.inFlightCount ?? 0) / (agent.maxConcurrency ?? 1) },
  { name: "", text: "Capabilities", class: "wide" },
  { name: "breaker", text: "Breaker", class: "wide w110", by: (agent) => (agent.breaker === "BREAKER_OPEN" ? 0 : agent.breaker === "BREAKER_HALF_OPEN" ? 1 : 2) },
  { name: "done", text: "Last 2 min", class: "wide w130", by: (agent) => -sum(trail(agent.agentId!)) },
  { name: "success", text: "Success", class: "number w90", by: (agent) => success(agent) },
  { name: "run", text: "Mean run", class: "number wide w100", by: (agent) => -record(agent).mean },
  { name: "heard", text: "Heard", class: "number wide w90", by: (agent) => time(agent.heartbeatTime) },
];

function sum(values: number[]): number {
  return values.reduce((total, each) => total + each, 0);
}

function success(agent: AgentJson): number {
  const { done, failed } = record(agent);
  return done + failed > 0 ? done / (done + failed) : Number.NaN;
}

const found = computed(() => {
  const { search, status, sort } = asked.value;
  const text = search.trim().toLowerCase();
  const matching = agentIds.value.flatMap((id): AgentJson[] => {
    const agent = agents.value.get(id);
    return agent && fits(agent, status) && (!text || says(agent, text)) ? [agent] : [];
  });
  const by = COLUMNS.find(({ name }) => name && name === sort.replace("-", ""))?.by;
  if (!by) return matching;
  const turned = sort.startsWith("-") ? -1 : 1;
  const keys = new Map(matching.map((agent) => [agent, by(agent)]));
  const last = (key: number) => (Number.isNaN(key) ? Number.POSITIVE_INFINITY : key * turned);
  const compared = (a: AgentJson, b: AgentJson) => {
    const [one, other] = [last(keys.get(a)!), last(keys.get(b)!)];
    return one === other ? 0 : one - other;
  };
  return matching.sort(compared);
});

function fits(agent: AgentJson, status: string): boolean {
  return !status || agent.status === status || agent.breaker === status;
}

function says(agent: AgentJson, text: string): boolean {
  return agent.agentId!.includes(text) || (agent.name ?? "").toLowerCase().includes(text) ||
    (agent.capabilities ?? []).some(({ name }) => name!.includes(text));
}

/** The rows as they stood when the pointer or the focus came: nothing moves under a finger. */
const held = signal<string[] | null>(null);

function standing(all: AgentJson[]): AgentJson[] {
  if (!held.value) return all;
  const places = new Map(held.value.map((id, at) => [id, at]));
  const place = ({ agentId }: AgentJson) => places.get(agentId!) ?? places.size;
  return [...all].sort((a, b) => place(a) - place(b));
}

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
  const all = standing(found.value);
  const { search, status } = asked.value;
  const many = tally.value;
  const narrowed = search !== "" || status !== "";
  return (
    <div class="page">
      <div class="title">
        <h1>Agents</h1>
        <span class="hint">{narrowed ? `${count(all.length)} of ${count(agents.value.size)}` : `${count(agents.value.size)} known`}</span>
      </div>
      {(agents.value.size > 0 || !agentsKnown.value) && <Panel title="Fleet" hint="a cell an agent, filled by load"><FleetMap /></Panel>}
      <div class="filters">
        <input
          type="search" placeholder="Name, id or capability" aria-label="Search agents"
          value={search} onInput={(event) => ask({ search: entered(event) })}
        />
        <div class="segments" role="group" aria-label="Status">
          <button type="button" aria-pressed={!status} onClick={() => ask({ status: "" })}>all</button>
          {STATUSES.map((each) => (
            <button
              type="button" key={each} aria-pressed={status === `STATUS_${each}`}
              onClick={() => ask({ status: `STATUS_${each}` })}
            >
              {each.toLowerCase()} <i>{count(many.get(`STATUS_${each}`) ?? 0)}</i>
            </button>
          ))}
          <button type="button" aria-pressed={status === "BREAKER_OPEN"} onClick={() => ask({ status: "BREAKER_OPEN" })}>
            breaker open <i>{count(many.get("BREAKER_OPEN") ?? 0)}</i>
          </button>
        </div>
      </div>
      <Panel class={agentsKnown.value ? "" : "loading"}>
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

const tally = computed(() => {
  const many = new Map<string, number>();
  for (const { status, breaker } of agents.value.values()) {
    for (const each of [status, breaker]) if (each) many.set(each, (many.get(each) ?? 0) + 1);
  }
  return many;
});

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
  const hold = () => {
    held.value ??= found.peek().map(({ agentId }) => agentId!);
  };
  const release = () => {
    held.value = null;
  };
  useEffect(() => release, []);
  return (
    <div class="scroll-x">
      <table class="table rows fixed">
        <thead>
          <tr>
            {COLUMNS.map((column) => <Head key={column.text} of={column} />)}
            <th class="wide w160"><span class="sr">Actions</span></th>
          </tr>
        </thead>
        <tbody onMouseEnter={hold} onMouseLeave={release} onFocusIn={hold} onFocusOut={release}>{listed.map(row)}</tbody>
      </table>
    </div>
  );
}

function Head({ of: { name, text, class: looks = "", by } }: { of: Column }) {
  if (!by) return <th class={looks}>{text}</th>;
  const { sort } = asked.value;
  const state = sort === name ? "ascending" : sort === `-${name}` ? "descending" : "none";
  const next = state === "none" ? name : state === "ascending" ? `-${name}` : "";
  return (
    <th class={looks} aria-sort={state}>
      <button type="button" class="sort" onClick={() => ask({ sort: next })}>{text}</button>
    </th>
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
      <td class="load"><div class="filled"><Bar share={busy / slots} label={`${busy} of ${slots}`} /><span class="under">{busy}/{slots}</span></div></td>
      <td class="wide"><Capabilities agent={agent} /></td>
      <td class="wide"><Badge of={agent.breaker} /></td>
      <td class="wide"><Trailing id={agent.agentId!} /></td>
      <td class={`number ${failed * 3 > done ? "bad-text" : ""}`}>{percent(done + failed > 0 ? done / (done + failed) : Number.NaN)}</td>
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
  const steps = trail(id);
  const many = Math.round(sum(steps));
  return <Spark values={steps} length={TRAIL_MAX} label={`${many} completed in ${steps.length * 2} seconds`} />;
}

export function Capabilities({ agent, all = false }: { agent: AgentJson; all?: boolean }) {
  const named = agent.capabilities ?? [];
  const shown = all ? named : named.slice(0, 1);
  return (
    <span class={all ? "chips" : "chips one"} title={all ? undefined : named.map(({ name }) => name).join(", ")}>
      {shown.map(({ name, proficiency, version }) => (
        <span class="chip" key={name} title={`proficiency ${proficiency ?? 1}${version ? `, version ${version}` : ""}`}>
          {name}{all && proficiency !== undefined && <i> {percent(number(proficiency))}</i>}
        </span>
      ))}
      {named.length > shown.length && <span class="mute">+{named.length - shown.length}</span>}
    </span>
  );
}

export function AgentActions({ agent }: { agent: AgentJson }) {
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
