// What somebody should look at, in one line; it says so when there is nothing.
import { computed, signal } from "@preact/signals";
import { milliseconds } from "../podium";
import { count, duration, percent } from "./format";
import { to } from "./route";
import { agents, agentsKnown, counts, everConnected, queue, recent } from "./store";

const WAIT_MAX_MS = 30_000;
const SUCCESS_MIN = 0.95;
/** What matters most comes first; all of it would push the plots down. */
const SHOWN_MAX = 4;
const whole = signal(false);

interface Matter {
  text: string;
  tone: "bad" | "warn" | "ask";
  href: string;
}

const TONES = ["bad", "ask", "warn"];

const matters = computed((): Matter[] =>
  [...ofQueue(), ...ofAgents(), ...ofOutcomes()].sort((a, b) => TONES.indexOf(a.tone) - TONES.indexOf(b.tone)));

function ofQueue(): Matter[] {
  const known = queue.value;
  if (!known) return [];
  const found: Matter[] = [];
  const queued = to("tasks", "", { state: "STATE_QUEUED" });
  if (!known.routerCount) found.push({ text: "No router is connected: nothing is given out", tone: "bad", href: to("now") });
  if (known.logDamage) found.push({ text: `The log is damaged: ${known.logDamage}`, tone: "bad", href: to("now") });
  for (const { requiredCapabilities, count: many, schedulable } of known.requirements ?? []) {
    if (schedulable || !Number(many ?? 0)) continue;
    const needs = (requiredCapabilities ?? []).join(" and ");
    found.push({ text: `${count(Number(many))} wait for an agent that can do ${needs}`, tone: "bad", href: queued });
  }
  const oldest = Math.max(0, ...(known.priorities ?? []).map(({ oldestAge }) => milliseconds(oldestAge)));
  if (oldest > WAIT_MAX_MS) found.push({ text: `The oldest task has waited ${duration(oldest)}`, tone: "warn", href: queued });
  for (const { type, tenant, reason } of known.pauses ?? []) {
    const what = [type ?? "", tenant ? `tenant ${tenant}` : ""].filter(Boolean).join(" of ") || "Everything";
    found.push({ text: `${what} is paused${reason ? `: ${reason}` : ""}`, tone: "warn", href: to("tasks", "", { state: "STATE_PAUSED" }) });
  }
  const asking = counts.value.get("STATE_INPUT_REQUIRED") ?? 0;
  if (asking) found.push({ text: `${count(asking)} ask${asking === 1 ? "s" : ""} for an answer`, tone: "ask", href: to("tasks", "", { state: "STATE_INPUT_REQUIRED" }) });
  const dead = counts.value.get("STATE_FAILED") ?? 0;
  if (dead) found.push({ text: `${count(dead)} dead letter${dead === 1 ? "" : "s"}`, tone: "warn", href: to("dead") });
  return found;
}

function ofAgents(): Matter[] {
  const tally = { open: 0, STATUS_QUARANTINED: 0, STATUS_SUSPECT: 0, STATUS_OFFLINE: 0 };
  for (const { status, breaker } of agents.value.values()) {
    if (breaker === "BREAKER_OPEN" && status !== "STATUS_OFFLINE") tally.open += 1;
    if (status && status in tally) tally[status as keyof typeof tally] += 1;
  }
  const found: Matter[] = [];
  const say = (many: number, text: string, tone: Matter["tone"], query: Record<string, string>) => {
    if (many) found.push({ text: `${count(many)} ${many === 1 ? "agent" : "agents"} ${text}`, tone, href: to("agents", "", query) });
  };
  if (agentsKnown.value && agents.value.size === 0) found.push({ text: "No agent is connected", tone: "warn", href: to("agents") });
  say(tally.open, "cut off by the breaker", "bad", { status: "BREAKER_OPEN" });
  say(tally.STATUS_QUARANTINED, "quarantined", "bad", { status: "STATUS_QUARANTINED" });
  say(tally.STATUS_SUSPECT, "not heard of", "warn", { status: "STATUS_SUSPECT" });
  say(tally.STATUS_OFFLINE, "offline", "warn", { status: "STATUS_OFFLINE" });
  return found;
}

function ofOutcomes(): Matter[] {
  let done = 0;
  let failed = 0;
  for (const { total } of recent.value) {
    done += Number(total?.completedCount ?? 0);
    failed += Number(total?.failedCount ?? 0);
  }
  const success = done / (done + failed);
  if (!(success < SUCCESS_MIN)) return [];
  return [{ text: `Only ${percent(success)} succeeded in the last half minute`, tone: "bad", href: to("dead") }];
}

export function Attention() {
  const all = matters.value;
  const shown = whole.value ? all : all.slice(0, SHOWN_MAX);
  const known = everConnected.value && queue.value && agentsKnown.value;
  return (
    <nav class="attention" aria-label="Needs attention">
      {shown.map(({ text, tone, href }) => <a key={text.replace(/[\d.,]+/g, "")} class={`matter ${tone}`} href={href}>{text}</a>)}
      {all.length > SHOWN_MAX && (
        <button type="button" class="matter more" aria-expanded={whole.value} onClick={() => { whole.value = !whole.value; }}>
          {whole.value ? "less" : `${all.length - SHOWN_MAX} more`}
        </button>
      )}
      {all.length === 0 && <span class={`matter ${known ? "good" : "mute"}`}>{known ? "Nothing needs attention" : "Looking around…"}</span>}
    </nav>
  );
}
