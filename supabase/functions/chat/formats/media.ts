/**
 * Images, sounds and files in the words of each provider.
 *
 * A stored block says where its bytes are: `url`, `base64`, a provider's `file_id`, or `storage`. What
 * a provider has no words for is `undefined`: an id of somebody else's file, say.
 *
 * @module
 */

import { isObject, type JsonObject, own, textField } from "../adapters/changes/json.ts";
import { present } from "./definitions.ts";

type Writer = (block: JsonObject) => JsonObject | undefined;
type Reader = (part: JsonObject) => JsonObject | undefined;

export function isMedia({ type }: JsonObject): boolean {
  return type === "image" || type === "audio" || type === "file";
}

/** A block whose bytes are told by an address, which may hold them itself. */
function fromUrl(type: string, url: string, rest: JsonObject = {}): JsonObject {
  const data = /^data:([^;,]*);base64,([^]*)$/.exec(url);
  if (data === null) return { type, source: { kind: "url", url }, ...rest };
  const media_type = data[1] === "" ? {} : { media_type: data[1] };
  return { type, source: { kind: "base64", data: data[2] }, ...media_type, ...rest };
}

/** The address of a block's bytes; `undefined` when only their keeper knows them. */
function urlOf(block: JsonObject): string | undefined {
  const kind = own(block.source, "kind");
  if (kind === "url") return textField(block.source, "url");
  const data = textField(block.source, "data");
  if (kind !== "base64" || data === undefined) return undefined;
  return `data:${textField(block, "media_type") ?? "application/octet-stream"};base64,${data}`;
}

function fileId(block: JsonObject, provider: string): string | undefined {
  const isTheirs = own(block.extras, "provider") === provider;
  return isTheirs ? textField(block.source, "file_id") : undefined;
}

function ofFile(type: string, file_id: string, provider: string): JsonObject {
  return { type, source: { kind: "file_id", file_id }, extras: { provider } };
}

export const writeChatMedia: Writer = (block) => {
  const url = urlOf(block);
  if (block.type === "image") {
    return url === undefined ? undefined : { type: "image_url", image_url: { url } };
  }
  const data = textField(block.source, "data");
  if (block.type === "audio") {
    const format = textField(block, "media_type")?.split("/")[1]?.replace("mpeg", "mp3");
    if (data === undefined || format === undefined) return undefined;
    return { type: "input_audio", input_audio: { data, format } };
  }
  const file_id = fileId(block, "openai_chat");
  if (file_id !== undefined) return { type: "file", file: { file_id } };
  if (data === undefined) return undefined;
  return { type: "file", file: { ...present(block, ["filename"]), file_data: url } };
};

export const readChatMedia: Reader = ({ type, image_url, file }) => {
  const url = textField(image_url, "url");
  if (type === "image_url" && url !== undefined) return fromUrl("image", url);
  if (type !== "file" || !isObject(file)) return undefined;
  const [id, data] = [textField(file, "file_id"), textField(file, "file_data")];
  if (id !== undefined) return ofFile("file", id, "openai_chat");
  return data === undefined ? undefined : fromUrl("file", data, present(file, ["filename"]));
};

export const writeResponsesMedia: Writer = (block) => {
  const url = urlOf(block);
  const file_id = fileId(block, "openai_responses");
  if (block.type === "audio") return undefined;
  const type = block.type === "image" ? "input_image" : "input_file";
  if (file_id !== undefined) return { type, file_id };
  if (url === undefined) return undefined;
  if (type === "input_image") return { type, image_url: url };
  if (!url.startsWith("data:")) return { type, file_url: url };
  return { type, ...present(block, ["filename"]), file_data: url };
};

export const readResponsesMedia: Reader = (part) => {
  const type = part.type === "input_image" ? "image" : "file";
  if (part.type !== "input_image" && part.type !== "input_file") return undefined;
  const id = textField(part, "file_id");
  if (id !== undefined) return ofFile(type, id, "openai_responses");
  const url = ["image_url", "file_url", "file_data"].map((key) => textField(part, key))
    .find((found) => found !== undefined);
  return url === undefined ? undefined : fromUrl(type, url, present(part, ["filename"]));
};

export const writeAnthropicMedia: Writer = (block) => {
  if (block.type === "audio") return undefined;
  const type = block.type === "image" ? "image" : "document";
  const file_id = fileId(block, "anthropic");
  const { kind, url, data } = isObject(block.source) ? block.source : {};
  const source = file_id !== undefined
    ? { type: "file", file_id }
    : kind === "url"
    ? { type: "url", url }
    : kind === "base64" && textField(block, "media_type") !== undefined
    ? { type: "base64", media_type: block.media_type, data }
    : undefined;
  if (source === undefined) return undefined;
  const title = textField(block, "filename");
  return { type, source, ...(type === "document" && title !== undefined ? { title } : {}) };
};

export const readAnthropicMedia: Reader = ({ type, source, title }) => {
  if ((type !== "image" && type !== "document") || !isObject(source)) return undefined;
  const kind = type === "image" ? "image" : "file";
  const rest = typeof title === "string" ? { filename: title } : {};
  const [id, url, data] = [
    textField(source, "file_id"),
    textField(source, "url"),
    textField(source, "data"),
  ];
  if (source.type === "file" && id !== undefined) {
    return { ...ofFile(kind, id, "anthropic"), ...rest };
  }
  if (source.type === "url" && url !== undefined) return fromUrl(kind, url, rest);
  if (source.type !== "base64" || data === undefined) return undefined;
  const { media_type } = source;
  return { type: kind, source: { kind: "base64", data }, media_type, ...rest };
};
