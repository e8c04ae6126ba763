// The same messages in protobuf's binary form, for payloads that are large or binary themselves: base64
// costs a third more. It brings the protobuf runtime, 25 kB compressed, which JSON does without.
//
//   import { connect } from "podium-web";
//   import { binary } from "podium-web/binary";
//   const podium = connect({ url, spelling: binary });
import { fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import { BridgeRequestSchema, BridgeResponseSchema } from "./gen/podium/v1/bridge_pb.js";
import type { Spelling } from "./wire.js";

export const binary: Spelling = {
  subprotocol: "podium.v1.proto",
  write: (message) => toBinary(BridgeRequestSchema, fromJson(BridgeRequestSchema, message)),
  read: (data) => toJson(BridgeResponseSchema, fromBinary(BridgeResponseSchema, new Uint8Array(data as ArrayBuffer))),
};
