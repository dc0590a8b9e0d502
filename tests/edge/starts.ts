/**
 * Loads a function as its platform does and asks it one question; prints the answer's status.
 *
 *     starts.ts path/of/index.ts name method
 */

const [entry = "", name = "", method = "OPTIONS"] = Deno.args;
let serve = (_handler: (request: Request) => Promise<Response>): void => {};
const handler = new Promise<(request: Request) => Promise<Response>>((resolve) => serve = resolve);
Object.defineProperty(Deno, "serve", { value: (given: never) => serve(given) });
await import(entry);
const response = await (await handler)(new Request(`http://edge.test/${name}`, { method }));
console.log(response.status);
Deno.exit(0);
