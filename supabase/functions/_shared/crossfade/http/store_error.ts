/**
 * A read or write that the database refused, or that nobody answered.
 *
 * @module
 */

import { isRow } from "../flags/snapshot.ts";

export interface StoreErrorOptions {
  /**
   * True when the database itself refused and rolled back, false when nobody knows whether the
   * statement was carried out (no answer, or an answer of something in between).
   */
  readonly refused: boolean;
  readonly status: number;
  /** True when the wait was ended by us: the statement may be running still. */
  readonly timedOut?: boolean;
  /** SQLSTATE, or the code in the error's detail, or one of PostgREST's. */
  readonly code?: string;
  readonly flagsVersion?: number;
  readonly cause?: unknown;
}

/** A read or write that failed. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly refused: boolean;
  readonly status: number;
  readonly timedOut: boolean;
  readonly code: string;
  readonly flagsVersion: number | undefined;

  constructor(message: string, options: StoreErrorOptions) {
    super(message, { cause: options.cause });
    this.refused = options.refused;
    this.status = options.status;
    this.timedOut = options.timedOut === true;
    this.code = options.code ?? "";
    this.flagsVersion = options.flagsVersion;
  }

  get fenced(): boolean {
    return this.code === "CF_FENCED";
  }

  get archived(): boolean {
    return this.code === "CF_ARCHIVED";
  }

  get duplicate(): boolean {
    return this.code === "23505";
  }

  /**
   * True for what the sent values make fail: out of range, missing, not allowed by a check, too
   * long for an index, too deep for the parser, or no column of the table.
   */
  get invalid(): boolean {
    return this.status === 413 ||
      /^(22...|23502|23514|54...|PGRST10[0-9]|PGRST204)$/.test(this.code);
  }
}

/** Classifies an error of the Data API by its codes, never by its text. */
export function readError(error: unknown, status: number, timedOut = false): StoreError {
  const row = isRow(error) ? error : {};
  const sqlstate = typeof row.code === "string" ? row.code : "";
  const detail = parseDetail(row.details);
  const code = typeof detail.code === "string" ? detail.code : sqlstate;
  const version = detail.flags_version;
  const message = typeof row.message === "string" ? row.message : "The database did not answer";
  return new StoreError(message, {
    // A failed fetch is reported with status 0; a proxy's page has no SQLSTATE.
    refused: status >= 400 && /^([0-9A-Z]{5}|PGRST\d+)$/.test(sqlstate),
    status,
    timedOut,
    code,
    ...(typeof version === "number" ? { flagsVersion: version } : {}),
    cause: error,
  });
}

function parseDetail(details: unknown): Readonly<Record<string, unknown>> {
  if (isRow(details)) return details;
  if (typeof details !== "string" || !details.startsWith("{")) return {};
  try {
    const value: unknown = JSON.parse(details);
    return isRow(value) ? value : {};
  } catch {
    return {};
  }
}
