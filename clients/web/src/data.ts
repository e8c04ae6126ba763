// How ProtoJSON spells times, spans and bytes, and what JavaScript makes of them.
import type { PayloadJson } from "./gen/podium/v1/task_pb.js";

/** Milliseconds of a span such as "1.5s"; 0 when it is absent. */
export function milliseconds(span: string | undefined): number {
  return span ? Number.parseFloat(span) * 1_000 : 0;
}

/** A span of milliseconds as ProtoJSON has it. */
export function span(ms: number): string {
  return `${(ms / 1_000).toFixed(3)}s`;
}

/** Milliseconds since the epoch; NaN when it is absent. */
export function time(moment: string | undefined): number {
  return moment ? Date.parse(moment) : Number.NaN;
}

/** A number, 0 where it is absent; ProtoJSON may spell some as text. */
export function number(value: number | string | undefined): number {
  return Number(value ?? 0);
}

/**
 * A payload from a value: text and bytes as they are, everything else as JSON.
 *
 * Throws a TypeError for what JSON cannot hold.
 */
export function payload(value: unknown, contentType?: string): PayloadJson {
  const bytes = bytesOf(value);
  if (bytes) return { contentType: contentType ?? "application/octet-stream", data: encode(bytes) };
  const isText = typeof value === "string";
  const text = isText ? value : json(value ?? null);
  const type = contentType ?? (isText ? "text/plain; charset=utf-8" : "application/json");
  return { contentType: type, data: encode(new TextEncoder().encode(text)) };
}

/** The bytes of what holds bytes, in whichever form JavaScript has them. */
function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : undefined;
}

/** JSON of a value; a TypeError for what JSON would silently lose or turn into null. */
function json(value: unknown): string {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined || (text === "{}" && !isPlain(value))) {
    // A function or symbol is nothing in JSON, a Map or Blob an empty object.
    throw new TypeError(`JSON cannot hold ${Object.prototype.toString.call(value)}.`);
  }
  // To look at each value costs more than the rest, and only a null can have been such a number.
  if (text.includes("null")) {
    JSON.stringify(value, (key, found) => {
      if (typeof found === "number" && !Number.isFinite(found)) {
        throw new TypeError(`JSON cannot hold ${found}${key === "" ? "" : ` (${key})`}.`);
      }
      return found;
    });
  }
  return text;
}

function isPlain(value: unknown): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || "toJSON" in (value as object);
}

/** A text for people as the wire takes it: cut to so many characters, and without half ones. */
export function plain(text: string, lengthMax: number): string {
  // Encoding replaces them; one that the cut halves as well.
  return new TextDecoder().decode(new TextEncoder().encode(text.slice(0, lengthMax)));
}

/** Whether a payload is larger than the 256 KiB that any may have. */
export function isTooLarge({ data }: PayloadJson): boolean {
  return (data?.length ?? 0) > Math.ceil((256 * 1_024) / 3) * 4;
}

/** What a payload holds: JSON parsed, text as a string, anything else as bytes. */
export function value(payload: PayloadJson | undefined): unknown {
  if (!payload?.data) return undefined;
  const bytes = decode(payload.data);
  const type = (payload.contentType ?? "").split(";")[0]!.trim();
  if (type === "application/json" || type.endsWith("+json")) {
    return JSON.parse(new TextDecoder().decode(bytes));
  }
  return type.startsWith("text/") ? new TextDecoder().decode(bytes) : bytes;
}

/** Base64 of bytes. */
export function encode(bytes: Uint8Array): string {
  let binary = "";
  // In slices: the arguments of a call have a limit.
  for (let at = 0; at < bytes.length; at += 8_192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  }
  return btoa(binary);
}

/** Bytes of base64. */
export function decode(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
