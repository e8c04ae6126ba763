// Follows the whole log and prints a line for each event: node follow.mjs <url>
import { connect } from "../../dist/podium.js";

const spelling = process.env.SPELLING === "binary" ? (await import("../../dist/binary.js")).binary : undefined;

const podium = connect({ url: process.argv[2], spelling });
podium.wire.onstate = (state) => console.log(`# ${state} ${podium.wire.notice?.kind ?? ""}`);
for await (const { name, event } of podium.watchEvents({ omitPayloads: true })) {
  console.log(`${event.seq} ${name} ${event.taskId}`);
}
