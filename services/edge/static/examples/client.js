// Submits a task and shows what happens to it, over every reconnect.
import { connect } from "/podium.js";

const podium = connect();
const log = document.querySelector("#log");

document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  log.textContent = "";
  const task = await podium.submit({ type: "text.count", payload: event.target.text.value });
  for await (const { name, event: { progress, agentId = "" } } of task.events()) {
    log.textContent += `${name} ${agentId} ${progress?.message ?? ""}\n`;
    document.querySelector("progress").value = name === "task:completed" ? 1 : progress?.fraction ?? 0;
  }
  log.textContent += JSON.stringify(await task.result().catch(({ message }) => message));
});
