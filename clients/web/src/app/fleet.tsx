// All agents on one canvas: a cell each, its color the status, its filling the load.
import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { AgentJson } from "../gen/podium/v1/agent_pb";
import { count, percent, word } from "./format";
import { go, to } from "./route";
import { agentIds, agents } from "./store";
import { themed } from "./themed";

const CELL_MAX = 38;
const GAP = 2;

/** What stands out is not available; the rest is told apart by how full it is. */
const COLORS: Record<string, string> = {
  STATUS_IDLE: "good", STATUS_BUSY: "live", STATUS_DRAINING: "warn", STATUS_QUARANTINED: "bad",
  STATUS_SUSPECT: "warn", STATUS_OFFLINE: "mute", BREAKER_OPEN: "bad",
};

function look(agent: AgentJson): string {
  return agent.breaker === "BREAKER_OPEN" && agent.status !== "STATUS_OFFLINE" ? "BREAKER_OPEN" : agent.status ?? "";
}

function load(agent: AgentJson): number {
  return Math.min(1, (agent.inFlightCount ?? 0) / Math.max(1, agent.maxConcurrency ?? 1));
}

/** The largest square of which `many` fit. */
function cellSize(many: number, width: number, height: number): number {
  for (let size = CELL_MAX; size > 3; size -= 1) {
    if (Math.floor(width / size) * Math.floor(height / size) >= many) return size;
  }
  return 3;
}

export function FleetMap() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [pointed, setPointed] = useState("");
  const size = useRef(CELL_MAX);
  useEffect(() => {
    const board = canvas.current!;
    const paint = () => {
      size.current = draw(board, agentIds.value, agents.value);
    };
    const stop = effect(paint);
    const sized = new ResizeObserver(paint);
    sized.observe(board);
    const unthemed = themed(paint);
    return () => {
      stop();
      sized.disconnect();
      unthemed();
    };
  }, []);
  const under = (event: MouseEvent): string => {
    const { width } = canvas.current!.getBoundingClientRect();
    const across = Math.floor(width / size.current);
    const column = Math.floor(event.offsetX / size.current);
    return column < across ? agentIds.value[Math.floor(event.offsetY / size.current) * across + column] ?? "" : "";
  };
  const agent = agents.value.get(pointed);
  return (
    <>
      <canvas
        ref={canvas} class={`fleet ${pointed ? "pointed" : ""}`} role="img" aria-label={`${count(agents.value.size)} agents by status and load`}
        onMouseMove={(event) => setPointed(under(event))} onMouseLeave={() => setPointed("")}
        onClick={(event) => {
          const id = under(event);
          if (id) go(to("agents", id));
        }}
      />
      <div class="fleet-told">
        {agent
          ? <span><b>{agent.name || agent.agentId}</b> {word(look(agent))} · {agent.inFlightCount ?? 0} of {agent.maxConcurrency ?? 1} · {percent(load(agent))} full</span>
          : <Tally />}
      </div>
    </>
  );
}

function Tally() {
  const tally = new Map<string, number>();
  for (const agent of agents.value.values()) tally.set(look(agent), (tally.get(look(agent)) ?? 0) + 1);
  return (
    <ul class="tally">
      {Object.keys(COLORS).filter((status) => tally.has(status) || /IDLE|BUSY/.test(status)).map((status) => (
        <li key={status}>
          <a class={`c-${COLORS[status]}`} href={to("agents", "", { status })}>
            {status === "BREAKER_OPEN" ? "breaker open" : word(status)} <b>{count(tally.get(status) ?? 0)}</b>
          </a>
        </li>
      ))}
    </ul>
  );
}

function draw(board: HTMLCanvasElement, ids: string[], known: ReadonlyMap<string, AgentJson>): number {
  const { clientWidth: width, clientHeight: height } = board;
  const scale = devicePixelRatio || 1;
  if (board.width !== Math.round(width * scale) || board.height !== Math.round(height * scale)) {
    board.width = Math.round(width * scale);
    board.height = Math.round(height * scale);
  }
  const pen = board.getContext("2d")!;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(board);
  const colors = new Map(Object.entries(COLORS).map(([status, name]) => [status, style.getPropertyValue(`--${name}`)]));
  const size = cellSize(ids.length, width, height);
  const across = Math.max(1, Math.floor(width / size));
  const side = size - (size > 6 ? GAP : 1);
  ids.forEach((id, at) => {
    const agent = known.get(id);
    if (!agent) return;
    const x = (at % across) * size;
    const y = Math.floor(at / across) * size;
    pen.fillStyle = colors.get(look(agent)) ?? "#888";
    const usual = agent.status === "STATUS_IDLE" || agent.status === "STATUS_BUSY";
    const open = agent.breaker === "BREAKER_OPEN";
    pen.globalAlpha = usual && !open ? 0.22 : 0.9;
    pen.fillRect(x, y, side, side);
    // It fills from the ground, like a glass.
    const filled = usual && !open ? Math.round(side * load(agent)) : 0;
    pen.globalAlpha = 1;
    if (filled > 0) pen.fillRect(x, y + side - filled, side, filled);
  });
  pen.globalAlpha = 1;
  return size;
}
