// An agent that finishes its task on SIGUSR2: node work.mjs <url> <agent id> <type>
import { connect } from "../../dist/podium.js";

const spelling = process.env.SPELLING === "binary" ? (await import("../../dist/binary.js")).binary : undefined;

const [url, agentId, type] = process.argv.slice(2);
const waiting = [];

connect({ url, spelling }).agent({
  agentId,
  capabilities: [type],
  onstate: (state) => console.log(`state ${state}`),
  handle: async ({ attempt, payload }) => {
    console.log(`began ${payload} attempt ${attempt}`);
    await new Promise((resolve) => waiting.push(resolve));
    return `${payload} by ${agentId}`;
  },
});

process.on("SIGUSR2", () => waiting.shift()?.());
