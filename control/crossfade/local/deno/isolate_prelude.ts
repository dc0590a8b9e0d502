/**
 * Runs before a function's own index.ts: what a hosted isolate has beyond plain Deno, and the
 * watch that ends the process with its supervisor.
 */

/** Work that goes on after the response; here only its failure has to be told. */
function waitUntil(work: Promise<unknown>): void {
  work.catch((error) => console.error("EdgeRuntime.waitUntil: work failed", error));
}

Object.defineProperty(globalThis, "EdgeRuntime", { value: { waitUntil } });

/** The supervisor holds the other end of stdin: its end is our end. */
async function endWithSupervisor(): Promise<void> {
  const reader = Deno.stdin.readable.getReader();
  while (!(await reader.read()).done);
  Deno.exit(0);
}

// From a timer that is not waited for: Deno runs index.ts when the prelude has nothing left to do.
Deno.unrefTimer(setTimeout(endWithSupervisor, 0));
