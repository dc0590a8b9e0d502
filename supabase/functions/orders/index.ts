/** Customers and orders, for clients of both versions: what a function of your own begins as. */

import { shiftPoint } from "../_shared/crossfade/http/exact_json.ts";
import { createCrossfadeFunction } from "../_shared/crossfade/serve/create.ts";
import { openProject } from "../_shared/crossfade/serve/project.ts";
// Deployed with the function; `crossfade flags bundle` writes it.
import bundled from "./flags.json" with { type: "json" };

Deno.serve(createCrossfadeFunction({
  ...openProject(Deno.env.toObject(), { bundled }),
  name: "orders",
  pairs: [{
    pair: "customers",
    resource: {
      tables: { 1: "customers", 2: "customers_v2" },
      fields: { 1: ["full_name", "email"], 2: ["name", "contact", "locale"] },
      convert: {
        // `base` is the stored row of the other version: what only that one holds comes from there.
        toV2: (
          { user_id: owner_id, full_name: name, email, ...row },
          { contact, locale } = {},
        ) => ({
          ...{ ...row, owner_id, name, locale },
          contact: { ...contact as object, email: email ?? undefined },
        }),
        toV1: ({ owner_id: user_id, name: full_name, contact, locale: _, ...row }) => ({
          ...{ ...row, user_id, full_name },
          email: (contact as { email?: string } | undefined)?.email ?? null,
        }),
      },
    },
  }, {
    pair: "orders",
    resource: {
      tables: { 1: "orders", 2: "orders_v2" },
      key: ["customer_id", "number"],
      fields: {
        1: ["customer_id", "status", "total_cents", "discount_cents", "note"],
        2: ["customer_id", "status", "total", "discount", "shipping", "note"],
      },
      convert: {
        toV2: ({ total_cents, discount_cents, due_cents, status, ...row }, base) => ({
          ...{ ...row, shipping: base?.shipping },
          status: status === "cancelled" && base?.status === "refunded" ? base.status : status,
          total: shiftPoint(total_cents, -2),
          discount: shiftPoint(discount_cents, -2),
          due: shiftPoint(due_cents, -2),
        }),
        toV1: ({ total, discount, due, status, shipping: _, ...row }) => ({
          ...row,
          status: status === "refunded" ? "cancelled" : status,
          total_cents: shiftPoint(total, 2),
          discount_cents: shiftPoint(discount, 2),
          due_cents: shiftPoint(due, 2),
        }),
      },
    },
  }],
}));
