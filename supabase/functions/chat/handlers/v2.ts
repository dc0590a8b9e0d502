/**
 * The V2 message: a list of typed blocks and named columns.
 *
 * @module
 */

import { isUuid } from "../../_shared/crossfade/serve/claims.ts";
import { type Format, isObject } from "./format.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool"];
const STATUSES = ["pending", "streaming", "complete", "incomplete", "error", "cancelled"];

type Check = (value: unknown) => string | undefined;

const CHECKS: Readonly<Record<string, Check>> = {
  role: (value) => ROLES.includes(String(value)) ? undefined : `is not one of ${ROLES.join(", ")}`,
  status: (value) =>
    STATUSES.includes(String(value)) ? undefined : `is not one of ${STATUSES.join(", ")}`,
  content: (value) =>
    Array.isArray(value) &&
      value.every((block) => isObject(block) && typeof block.type === "string")
      ? undefined
      : "is not a list of blocks with a type",
  metadata: (value) => isObject(value) ? undefined : "is not an object",
  parent_id: (value) => value === null || isUuid(value) ? undefined : "is not an id",
  model: textOrNull,
  finish_reason: textOrNull,
  edited_at: textOrNull,
  deleted_at: textOrNull,
  usage: objectOrNull,
  error: objectOrNull,
};

function textOrNull(value: unknown): string | undefined {
  return value === null || typeof value === "string" ? undefined : "is not text";
}

function objectOrNull(value: unknown): string | undefined {
  return value === null || isObject(value) ? undefined : "is not an object";
}

export const V2: Format = {
  version: 2,
  editable: Object.keys(CHECKS),
  required: ["role", "content"],
  defaults: { status: "complete", metadata: {} },
  check: (field, value) => CHECKS[field]?.(value),
};
