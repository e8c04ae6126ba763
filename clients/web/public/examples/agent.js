// A browser tab as an agent: it gets tasks, leases and retries like every other agent.
import { connect } from "/podium.js";

const note = (text) => document.querySelector("#done").prepend(Object.assign(document.createElement("li"), { textContent: text }));

connect().agent({
  agentId: `tab-${Math.random().toString(36).slice(2, 8)}`,
  name: "A browser tab",
  capabilities: ["text.count"],
  maxConcurrency: 4,
  onstate: (state, why) => { document.querySelector("#state").textContent = why ? `${state}: ${why.message}` : state; },
  async handle({ taskId, payload, progress }) {
    const text = typeof payload === "string" ? payload : JSON.stringify(payload ?? "");
    progress(0.5, "counting");
    const words = text.split(/\s+/).filter(Boolean).length;
    note(`${taskId}: ${words} words`);
    return { words, characters: text.length };
  },
});
