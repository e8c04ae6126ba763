// An agent of the web client that does as a task tells it: say, hold, wait, report, fail or large.
// node conforming.mjs <module of the client> <url> <agent id> <type>; it leaves on SIGTERM.
const [module, url, agentId, type] = process.argv.slice(2);
const { connect, FinalFailure } = await import(module);

const LARGE_BYTES = 300_000;
const HOLD_MS = 500;

const podium = connect({ url });
const agent = podium.agent({
  agentId,
  capabilities: [type],
  maxConcurrency: 4,
  onstate: (state) => state === "superseded" && leave(),
  handle: async ({ payload, progress, signal }) => {
    const words = new TextDecoder().decode(payload);
    switch (words.split(" ")[0]) {
      case "wait":
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        break;
      case "hold":
        await new Promise((resolve) => setTimeout(resolve, HOLD_MS));
        break;
      case "fail":
        throw new FinalFailure("as told", "AS_TOLD");
      case "large":
        return new Uint8Array(LARGE_BYTES);
      case "report":
        progress(0.25, "a quarter");
        progress(0.75, "three quarters");
    }
    return payload;
  },
});

function leave() {
  podium.close();
  process.exit(0);
}

process.on("SIGTERM", async () => {
  await agent.leave("stopping");
  leave();
});
