/**
 * The V1 message: plain text and a free metadata object.
 *
 * @module
 */

import { type Format, isObject } from "./format.ts";

const ROLES = ["user", "assistant", "system"];

export const V1: Format = {
  version: 1,
  editable: ["role", "content", "metadata"],
  required: ["role", "content"],
  defaults: { metadata: {} },
  check(field, value) {
    if (field === "role") {
      return ROLES.includes(String(value)) ? undefined : `is not one of ${ROLES.join(", ")}`;
    }
    if (field === "content") return typeof value === "string" ? undefined : "is not text";
    return isObject(value) ? undefined : "is not an object";
  },
};
