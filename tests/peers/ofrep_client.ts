/**
 * Asks an endpoint through the official client for JavaScript and prints what it understood.
 *
 * Arguments: base URL, key, JSON of `[flag, context]` pairs. Run by tests/integration.
 *
 * @module
 */

import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";

const [baseUrl = "", key = "", asked = "[]"] = Deno.args;
const provider = new OFREPProvider({ baseUrl, headers: [["Authorization", `Bearer ${key}`]] });
await OpenFeature.setProviderAndWait(provider);
const client = OpenFeature.getClient();
const answers = [];
for (const [flag, context] of JSON.parse(asked)) {
  // The default is the other value, so that an answer is not mistaken for it.
  const off = await client.getBooleanDetails(flag, false, context);
  const on = await client.getBooleanDetails(flag, true, context);
  answers.push({ off, on });
}
const text = await client.getStringDetails("ofrep_on", "text");
console.log(JSON.stringify({ answers, text }));
await OpenFeature.close();
