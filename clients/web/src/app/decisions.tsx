// Why this agent: each attempt with its candidates and the parts of their scores.
import type { DecisionJson } from "../gen/podium/v1/decision_pb";
import type { AttemptJson, TaskJson } from "../gen/podium/v1/task_pb";
import type { AttemptDecisionJson } from "../gen/podium/v1/task_scheduler_pb";
import { number, time } from "../podium";
import { duration, moment, percent } from "./format";
import { to } from "./route";

export function Attempts({ task, decisions }: { task: TaskJson; decisions: AttemptDecisionJson[] }) {
  const attempts = task.attempts ?? [];
  const known = new Map(decisions.map(({ attempt, decision }) => [attempt ?? 1, decision]));
  const numbers = [...new Set([...attempts.map(({ attempt }) => attempt ?? 1), ...known.keys()])].sort((a, b) => b - a);
  return (
    <ol class="attempts">
      {numbers.map((number) => (
        <Attempt
          key={number} number={number} decision={known.get(number)}
          attempt={attempts.find(({ attempt }) => (attempt ?? 1) === number)}
        />
      ))}
    </ol>
  );
}

function Attempt(
  { number, attempt, decision }: {
    number: number; attempt: AttemptJson | undefined; decision: DecisionJson | undefined;
  },
) {
  const agent = attempt?.agentId ?? decision?.agentId;
  const took = time(attempt?.endTime) - time(attempt?.startTime);
  return (
    <li class={`attempt ${attempt?.failure ? "failed" : ""}`}>
      <h3>
        Attempt {number} on <a href={to("agents", agent)}>{agent}</a>
        <span class="hint">
          {attempt?.startTime && ` ${moment(attempt.startTime)}`}
          {Number.isFinite(took) ? `, ${duration(took)}` : attempt ? ", still runs" : ""}
        </span>
      </h3>
      {attempt?.failure && (
        <p class="alert"><b>{attempt.failure.reason}</b> {attempt.failure.message}</p>
      )}
      {decision ? <Candidates of={decision} /> : <p class="mute">No decision was recorded for it.</p>}
    </li>
  );
}

function Candidates({ of: decision }: { of: DecisionJson }) {
  const ids = decision.candidateAgentIds ?? [];
  const part = (list: (number | string)[] | undefined, index: number) => number(list?.[index]);
  const sizes = ids.map((_, index) => Math.abs(part(decision.scores, index)));
  const most = Math.max(...sizes, 0.001);
  const learned = decision.policy === "learned";
  const filtered = Object.entries(decision.filteredCounts ?? {}).filter(([, many]) => many > 0);
  return (
    <>
      <p class="why">
        {decision.policy === "learned" ? `Learned score (minus the expected milliseconds), model ${decision.modelVersion}` : "Formula: match × 20 + free load × 100 + priority"}
        {" · "}{decision.eligibleCount ?? ids.length} could have it
        {filtered.map(([reason, many]) => ` · ${many} out: ${reason}`)}
        {number(decision.probability ?? 1) < 1 && ` · chosen with probability ${percent(number(decision.probability))}`}
        {decision.explored && " · to explore"}
        {decision.shadowAgentId && decision.shadowAgentId !== decision.agentId && ` · the other policy: ${decision.shadowAgentId}`}
      </p>
      <div class="scroll-x">
        <table class="table">
          <thead>
            <tr>
              <th>Candidate</th><th class="number">Score</th><th class="score"><PartNames of={learned ? ["delay", "risk and cost"] : ["match", "free", "priority"]} /></th>
              <th class="number">Match</th><th class="number">Free</th><th class="number">Priority</th>
              {learned && <><th class="number">Success</th><th class="number">Delay</th></>}
            </tr>
          </thead>
          <tbody>
            {ids.map((id, index) => {
              const match = part(decision.capabilityMatches, index);
              const free = part(decision.loadBalances, index);
              const bonus = part(decision.priorityBonuses, index);
              return (
                <tr key={id} class={id === decision.agentId ? "chosen" : ""}>
                  <td class="clip"><a href={to("agents", id)}>{id}</a></td>
                  <td class="number">{part(decision.scores, index).toFixed(1)}</td>
                  <td class="score">
                    {learned
                      ? <Parts parts={learnedParts(sizes[index] ?? 0, part(decision.expectedDelaysMs, index))} names={["delay", "risk and cost"]} whole={most} />
                      : <Parts parts={[match * 20, free * 100, bonus]} names={["match", "free", "priority"]} whole={most} />}
                  </td>
                  <td class="number">{match.toFixed(2)}</td>
                  <td class="number">{free.toFixed(2)}</td>
                  <td class="number">{bonus.toFixed(1)}</td>
                  {learned && (
                    <>
                      <td class="number">{percent(part(decision.successProbabilities, index))}</td>
                      <td class="number">{duration(part(decision.expectedDelaysMs, index))}</td>
                    </>
                  )}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** A learned score is minus an expected time: the delay, and what a failure or the cost adds to it. */
function learnedParts(size: number, delay: number): number[] {
  const own = Math.min(Math.max(0, delay), size);
  return [own, size - own];
}

function PartNames({ of }: { of: string[] }) {
  return <span class="part-names">{of.map((name, index) => <span key={name} class={`named-${index}`}>{name}</span>)}</span>;
}

function Parts({ parts, names, whole }: { parts: number[]; names: string[]; whole: number }) {
  let at = 0;
  const told = parts.map((part, index) => `${names[index]} ${part.toFixed(1)}`).join(", ");
  return (
    <svg class="bar parts" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={told}>
      <title>{told}</title>
      <rect class="bar-track" width="100" height="6" />
      {parts.map((part, index) => {
        const width = (Math.max(0, part) / whole) * 100;
        at += width;
        return <rect key={index} class={`part-${index}`} x={at - width} width={width} height="6" />;
      })}
    </svg>
  );
}
