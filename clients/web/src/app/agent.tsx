// One agent: what it is, what it has done, and why it was chosen or not.
import { useEffect, useState } from "preact/hooks";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import { milliseconds, number } from "../podium";
import { AgentActions, Capabilities } from "./agents";
import { Chances } from "./chances";
import { ago, count, duration, moment, percent, word } from "./format";
import { Badge, Bar, Empty, Panel } from "./parts";
import { to } from "./route";
import { agents, podium } from "./store";
import { TaskTable } from "./tasks";
import { Work } from "./work";

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
          : <TaskTable tasks={tasks ?? []} agents={false} />}
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
                <div class="filled">
                  <Bar share={number(each.successRate)} tone={number(each.successRate) < 0.5 ? "bad" : "good"} label={percent(number(each.successRate))} />
                  <span class="under">{percent(number(each.successRate))}</span>
                </div>
              </td>
              <td class="number">{Number(each.completedCount ?? 0) > 0 ? duration(milliseconds(each.meanRunDuration)) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
