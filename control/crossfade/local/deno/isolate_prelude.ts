/**
 * Runs before a function's own index.ts: what a hosted isolate has beyond plain Deno, and the
 * watch that ends the process with its supervisor.
 */

const WATCH_EVERY_MS = 500;

/** Work that goes on after the response; here only its failure has to be told. */
function waitUntil(work: Promise<unknown>): void {
  work.catch((error) => console.error("EdgeRuntime.waitUntil: work failed", error));
}

Object.defineProperty(globalThis, "EdgeRuntime", { value: { waitUntil } });

// Where the kernel does not do it (it does on Linux). An orphan gets another parent. The timer is
// not waited for: Deno runs index.ts only when the prelude has nothing left to do.
const supervisor = Deno.ppid;
Deno.unrefTimer(setInterval(() => {
  if (Deno.ppid !== supervisor) Deno.exit(0);
}, WATCH_EVERY_MS));
