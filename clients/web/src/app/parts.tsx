// Small pieces that every view is made of.
import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { word } from "./format";
import { told } from "./store";

type Children = { children?: ComponentChildren };

export function Panel(
  { title, hint, action, children, class: extra = "" }: Children & {
    title?: ComponentChildren; hint?: ComponentChildren; action?: ComponentChildren; class?: string;
  },
) {
  return (
    <section class={`panel ${extra}`}>
      {title && (
        <header>
          <h2>{title}</h2>
          {hint && <span class="hint">{hint}</span>}
          {action && <div class="action">{action}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

const TONES: Record<string, string> = {
  STATE_COMPLETED: "good", STATE_FAILED: "bad", STATE_EXPIRED: "bad", STATE_REJECTED: "bad",
  STATE_RUNNING: "live", STATE_ASSIGNED: "live", STATE_RETRY_WAIT: "warn",
  STATE_INPUT_REQUIRED: "ask", STATE_PAUSED: "warn", STATUS_IDLE: "good", STATUS_BUSY: "live", STATUS_DRAINING: "warn",
  STATUS_QUARANTINED: "bad", STATUS_SUSPECT: "warn", STATUS_OFFLINE: "mute",
  BREAKER_OPEN: "bad", BREAKER_HALF_OPEN: "warn", BREAKER_CLOSED: "mute",
};

/** A state as a dot and a word; color alone never tells it. */
export function Badge({ of }: { of: string | undefined }) {
  return <span class={`badge ${TONES[of ?? ""] ?? "mute"}`}>{word(of) || "unknown"}</span>;
}

export function Empty({ title, children }: Children & { title: string }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Bar({ share, tone = "accent", label }: { share: number; tone?: string; label: string }) {
  const width = Math.min(100, Math.max(0, share * 100));
  // As an SVG: its width is an attribute, where a style attribute would need unsafe-inline.
  return (
    <svg class={`bar ${tone}`} viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={label}>
      <rect class="bar-track" width="100" height="6" />
      <rect class="bar-fill" width={width} height="6" />
    </svg>
  );
}

/** The recent past as a small area; `values` oldest first, the newest at the right edge. */
export function Spark({ values, length, label }: { values: number[]; length: number; label: string }) {
  const most = Math.max(1, ...values);
  const step = 100 / Math.max(1, length - 1);
  const from = 100 - (values.length - 1) * step;
  const points = values.map((value, index) => `${(from + index * step).toFixed(1)} ${(19 - (value / most) * 17).toFixed(1)}`);
  return (
    <svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="spark-ground" d="M0 19.500H100" />
      {points.length > 1 && (
        <>
          <path class="spark-fill" d={`M${from.toFixed(1)} 20L${points.join("L")}L100 20Z`} />
          <path class="spark-line" d={`M${points.join("L")}`} />
        </>
      )}
    </svg>
  );
}

/** A choice of one among few. */
export function Segments<T extends string>({ label, of, chosen }: { label: string; of: [T, string][]; chosen: Signal<T> }) {
  return (
    <div class="segments" role="group" aria-label={label}>
      {of.map(([name, text]) => (
        <button
          type="button" key={name} aria-pressed={chosen.value === name}
          onClick={() => {
            chosen.value = name;
          }}
        >
          {text}
        </button>
      ))}
    </div>
  );
}

/** A button that works on something, says so, and tells when it did not work. */
export function Act(
  { run, children, tone = "", confirm, disabled, title }: Children & {
    run: () => Promise<unknown>; tone?: string; confirm?: string; disabled?: boolean; title?: string;
  },
) {
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const click = async () => {
    if (confirm && !asking) {
      setAsking(true);
      timer.current = setTimeout(() => setAsking(false), 4_000);
      return;
    }
    setAsking(false);
    setBusy(true);
    try {
      await run();
    } catch (error) {
      toast(told(error), "bad");
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type="button" class={`button ${asking ? "bad" : tone}`} disabled={busy || disabled}
      onClick={() => void click()} title={title}
    >
      {asking ? confirm : children}
    </button>
  );
}

let announce: (text: string, tone: string) => void = () => {};

/** Says something at the edge of the page for a moment. */
export function toast(text: string, tone = ""): void {
  announce(text, tone);
}

export function Toasts() {
  const [shown, setShown] = useState<{ id: number; text: string; tone: string }[]>([]);
  announce = (text, tone) => {
    const id = Math.random();
    setShown((all) => [...all.slice(-3), { id, text, tone }]);
    setTimeout(() => setShown((all) => all.filter((each) => each.id !== id)), 6_000);
  };
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.map(({ id, text, tone }) => <div key={id} class={`toast ${tone}`}>{text}</div>)}
    </div>
  );
}

/** Text that can be taken along. */
export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = () => {
    void navigator.clipboard?.writeText(text).then(() => {
      setDone(true);
      setTimeout(() => setDone(false), 1_500);
    });
  };
  return <button type="button" class="button quiet" onClick={copy}>{done ? "Copied" : label}</button>;
}

export function Field(
  { label, hint, children }: Children & { label: string; hint?: string },
) {
  return (
    <label class="field">
      <span class="field-label">{label}{hint && <span class="hint">{hint}</span>}</span>
      {children}
    </label>
  );
}

/** The value of an input event, typed. */
export function entered(event: Event): string {
  return (event.currentTarget as HTMLInputElement).value;
}
