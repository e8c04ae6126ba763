// Why one agent was chosen for the newest tasks that it is able to do, or why another was.
import { useEffect, useState } from "preact/hooks";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import type { DecisionJson } from "../gen/podium/v1/decision_pb";
import type { TaskJson } from "../gen/podium/v1/task_pb";
import { number, time } from "../podium";
import { ago, duration, percent, short } from "./format";
import { Empty } from "./parts";
import { to } from "./route";
import { podium } from "./store";

const TYPES_MAX = 4;
const SHOWN_MAX = 10;
const REFRESH_MS = 5_000;

/** Why agents were not even considered. */
const OUT: Record<string, string> = {
  capability: "cannot do it", breaker: "kept out by a breaker", excluded: "had failed it before",
};

interface Chance {
  task: TaskJson;
  decision: DecisionJson;
}

/** The newest decisions about tasks of the types that the agent can do. */
async function decided(agent: AgentJson): Promise<Chance[]> {
  const types = (agent.capabilities ?? []).slice(0, TYPES_MAX).map(({ name }) => name!);
  const lists = await Promise.all(types.map((type) => podium.list({ filter: { type }, pageSize: SHOWN_MAX })));
  const tasks = lists.flatMap(({ tasks: listed }) => listed)
    .filter(({ attemptCount }) => number(attemptCount) > 0)
    .sort((a, b) => time(b.createTime) - time(a.createTime))
    .slice(0, SHOWN_MAX);
  const explained = await Promise.all(tasks.map(async (task): Promise<Chance[]> => {
    const { explanation } = await podium.ask({ explain: { taskId: task.taskId! } });
    const last = explanation?.decisions?.at(-1)?.decision;
    return last ? [{ task, decision: last }] : [];
  }));
  return explained.flat();
}

export function Chances({ agent }: { agent: AgentJson }) {
  const [chances, setChances] = useState<Chance[]>();
  const id = agent.agentId!;
  const able = (agent.capabilities ?? []).map(({ name }) => name).join();
  useEffect(() => {
    let live = true;
    let timer: ReturnType<typeof setTimeout>;
    const load = async () => {
      try {
        const found = document.hidden ? undefined : await decided(agent);
        if (live && found) setChances(found);
      } catch {
        // What was known stays; the connection's own state tells the rest.
      }
      if (live) timer = setTimeout(() => void load(), REFRESH_MS);
    };
    void load();
    return () => {
      live = false;
      clearTimeout(timer);
    };
  }, [id, able]);
  if (chances?.length === 0) {
    return <Empty title="Nothing was decided yet"><p>Each decision names its candidates; those that this agent is able to do are explained here.</p></Empty>;
  }
  return (
    <div class="scroll-x list-10">
      <table class="table fixed">
        <thead>
          <tr>
            <th class="w150">Task</th><th class="w-agent">Chosen</th><th class="number wide w100">Its score</th><th class="number wide w110">Chosen one's</th>
            <th class="reason">Why</th><th class="number wide w100">Age</th>
          </tr>
        </thead>
        <tbody>{(chances ?? []).map((chance) => <Row key={chance.task.taskId} of={chance} id={id} />)}</tbody>
      </table>
    </div>
  );
}

function Row({ of: { task, decision }, id }: { of: Chance; id: string }) {
  const mine = score(decision, id);
  const theirs = score(decision, decision.agentId);
  const won = decision.agentId === id;
  return (
    <tr class={won ? "chosen" : ""}>
      <td><a class="id" title={task.taskId} href={to("tasks", task.taskId)}>{short(task.taskId)}</a><div class="under clip">{task.spec?.type}</div></td>
      <td class="clip">{won ? "this agent" : <a href={to("agents", decision.agentId)}>{decision.agentId}</a>}</td>
      <td class="number wide">{mine?.toFixed(1) ?? "–"}</td>
      <td class="number wide">{theirs?.toFixed(1) ?? "–"}</td>
      <td class="reason">{reason(decision, id)}</td>
      <td class="number mute wide">{ago(task.createTime)}</td>
    </tr>
  );
}

function score(decision: DecisionJson, id: string | undefined): number | undefined {
  const at = (decision.candidateAgentIds ?? []).indexOf(id ?? "");
  return at < 0 ? undefined : number(decision.scores?.[at]);
}

/** One sentence; the task's own page has all numbers. */
function reason(decision: DecisionJson, id: string): string {
  const ids = decision.candidateAgentIds ?? [];
  const eligible = number(decision.eligibleCount ?? ids.length);
  const mine = ids.indexOf(id);
  const theirs = ids.indexOf(decision.agentId ?? "");
  if (decision.agentId === id) {
    if (eligible <= 1) return "it was the only one that could";
    return decision.explored ? "to learn about it" : `the best of ${eligible} that could`;
  }
  if (mine < 0) {
    const out = Object.entries(decision.filteredCounts ?? {}).filter(([, many]) => many > 0)
      .map(([why, many]) => `${many} ${OUT[why] ?? why}`).join(", ");
    if (eligible > ids.length) return `not among the best ${ids.length} of ${eligible}${out && `; besides, ${out}`}`;
    return out ? `not available then: ${out}` : "it was not connected then";
  }
  if (decision.explored) return "another was tried, to learn about it";
  const part = (list: (number | string)[] | undefined, at: number) => number(list?.[at]);
  if (part(decision.scores, mine) > part(decision.scores, theirs)) {
    return `another was drawn, with a chance of ${percent(number(decision.probability ?? 1))}`;
  }
  if (decision.policy === "learned") {
    const [delay, other] = [part(decision.expectedDelaysMs, mine), part(decision.expectedDelaysMs, theirs)];
    const [sure, surer] = [part(decision.successProbabilities, mine), part(decision.successProbabilities, theirs)];
    if (surer - sure > 0.01) return `succeeds less surely: ${percent(sure)} against ${percent(surer)}`;
    return delay > other ? `expected to take longer: ${duration(delay)} against ${duration(other)}` : "as good: chance decided";
  }
  const [free, freer] = [part(decision.loadBalances, mine), part(decision.loadBalances, theirs)];
  const [match, better] = [part(decision.capabilityMatches, mine), part(decision.capabilityMatches, theirs)];
  if ((freer - free) * 100 >= (better - match) * 20 && freer > free) return `less free: ${percent(free)} against ${percent(freer)}`;
  return better > match ? `matches less: ${match.toFixed(2)} against ${better.toFixed(2)}` : "as good: chance decided";
}
